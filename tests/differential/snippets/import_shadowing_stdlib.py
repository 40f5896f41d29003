# `statistics` is not imported in advance; modules that are cannot be shadowed.
with open("statistics.py", "w") as f:
    f.write("print('mine', __file__)\n")
import statistics

print(statistics.__file__)
statistics.mean([1])
