import cProfile
import io
import pstats


def f():
    return sum(range(10))


p = cProfile.Profile()
p.enable()
f()
print("printed while profiled")
p.disable()
out = io.StringIO()
pstats.Stats(p, stream=out).strip_dirs().sort_stats("name").print_stats()
print([line.split()[-1] for line in out.getvalue().splitlines() if "(" in line and "calls" not in line])
