def outer(value):
    return inner(value)


def inner(value):
    return {"a": 1}[value] + 1


print("before")
outer("b")
