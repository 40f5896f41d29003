import weakref


class A:
    pass


p = weakref.proxy(A())
try:
    p.x
except ReferenceError as error:
    print(error)
