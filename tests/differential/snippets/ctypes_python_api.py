import ctypes

print(ctypes.pythonapi.Py_IsInitialized())
ctypes.pythonapi.Py_Exit(9)
