import warnings

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    warnings.warn("x", DeprecationWarning)
    warnings.warn("x", DeprecationWarning)
print([(str(w.message), w.lineno, w.filename) for w in caught])
