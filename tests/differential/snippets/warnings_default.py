import warnings

warnings.warn("a user warning")
warnings.warn("deprecated", DeprecationWarning)
warnings.warn("pending", PendingDeprecationWarning)
warnings.warn("resource", ResourceWarning)
warnings.warn("import", ImportWarning)
warnings.warn("future", FutureWarning)
for _ in range(2):
    warnings.warn("once per place")
print(warnings.filters)
