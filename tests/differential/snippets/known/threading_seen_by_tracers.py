# The interpreter calls `threading._shutdown` where `threading` was imported, as here it always
# was: a tracer that stays to the end sees it.
import os
import sys

sys.setprofile(lambda frame, event, arg: os.write(1, frame.f_code.co_name.encode() + b"\n"))
