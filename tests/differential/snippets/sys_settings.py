import sys

print(sys.getrecursionlimit(), sys.getswitchinterval(), sys.getdefaultencoding())
print(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors(), sys.gettrace(), sys.getprofile())
print(sys.get_asyncgen_hooks(), sys.get_coroutine_origin_tracking_depth(), sys.float_info.max)
print(sys.int_info, sys.getdlopenflags(), hasattr(sys, "ps1"), hasattr(sys, "last_value"))
print(sys.hash_info, getattr(sys, "get_int_max_str_digits", lambda: 0)())
print(sys.excepthook is sys.__excepthook__, sys.displayhook is sys.__displayhook__, sys.unraisablehook)
print(hasattr(sys, "tracebacklimit"), sys.is_finalizing(), sorted(vars(sys)))
