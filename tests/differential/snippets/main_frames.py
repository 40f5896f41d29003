import sys


def depth():
    n, frame = 0, sys._getframe()
    while frame:
        n, frame = n + 1, frame.f_back
    return n


print(depth(), sys._getframe().f_back, sys._getframe().f_code.co_name, sys._getframe().f_code.co_filename)
try:
    sys._getframe(1)
except ValueError as error:
    print(error)
print(sys._current_frames().keys() == {__import__("threading").get_ident()})
print(sys.exc_info())
