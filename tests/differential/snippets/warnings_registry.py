import warnings

warnings.warn("x")
print(sorted(k for k in globals() if "warn" in k), __warningregistry__["version"] >= 0)
