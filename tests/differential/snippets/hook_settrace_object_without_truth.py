import os
import sys
import threading  # whose own function at the end is traced, too


class Tracer:
    def __call__(self, frame, event, arg, write=os.write):
        write(1, f"{event} {frame.f_code.co_name}\n".encode())

    def __bool__(self):
        print("asked for truth")
        return False

    def __eq__(self, other):
        print("compared")
        return True


sys.settrace(Tracer())
