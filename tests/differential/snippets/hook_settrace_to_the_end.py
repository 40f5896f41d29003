import os
import sys
import threading  # whose own function at the end is traced, too


def tracer(frame, event, arg):
    os.write(1, f"{event} {frame.f_code.co_name}\n".encode())


sys.settrace(tracer)
print("x")
