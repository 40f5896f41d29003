match {"a": [1, 2]}:
    case {"a": [x, *rest]}:
        print(x, rest)
match 5:
    case int(n) if n > 3:
        print("big", n)
