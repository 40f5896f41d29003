# The first write to the other stream waits until what came before was read, in a function of
# Python's: a tracer sees it, and so does the recursion limit.
import sys

seen = []


def profiler(frame, event, arg):
    if event == "call":
        seen.append(frame.f_code.co_name)


sys.setprofile(profiler)
sys.stderr.write("x\n")
sys.setprofile(None)
print(seen)
