import weakref


class A:
    pass


a = A()
seen = []
r = weakref.ref(a, print if False else seen.append)
p = weakref.ref(a, __import__("functools").partial(print, "partial", end="!\n", flush=True) and print)
