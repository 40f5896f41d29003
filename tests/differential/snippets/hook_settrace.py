import sys


def tracer(frame, event, arg):
    seen.append((event, frame.f_code.co_name, frame.f_code.co_filename.rpartition("/")[2]))
    return tracer


def f(x):
    y = x + 1
    return y


seen = []
sys.settrace(tracer)
f(1)
sys.stdout.write("traced\n")
sys.settrace(None)
print(*seen, sep="\n")
