import inspect
import sys


def f(a, b=2):
    # a comment
    return inspect.stack()


class A:
    def m(self):
        return 1


print(inspect.getsource(f), inspect.getsource(A), inspect.getfile(f), inspect.getsourcelines(A.m))
print(inspect.getmodule(f), inspect.getsourcefile(A), inspect.getcomments(f))
for frame in f(1):
    print(frame.filename, frame.lineno, frame.function, frame.code_context)
print(inspect.currentframe().f_back, inspect.getsource(sys.modules["__main__"])[:30])
