with open("/dev/stdin") as f:
    print(repr(f.read()))
