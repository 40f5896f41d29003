import collections
import types

print(collections.namedtuple("P", "x y")(1, 2).__class__.__module__, types.SimpleNamespace(a=1))
print(type("Dyn", (), {}).__module__, (lambda: 0).__module__, type("Dyn", (), {}))
