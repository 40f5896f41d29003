import ctypes

print("aborts after everything else")
ctypes.pythonapi.Py_AtExit(ctypes.pythonapi.abort)
