import weakref


class A:
    pass


a, b = A(), A()
w = weakref.WeakValueDictionary(a=a)
s = weakref.WeakSet([a, b])
k = weakref.WeakKeyDictionary({b: 1})
print(len(w), len(s), len(k))
