import sys

print(sys.meta_path)
print([getattr(h, "__qualname__", h) for h in sys.path_hooks])
print([path for path in sys.path_importer_cache if not path.startswith(sys.prefix)])
