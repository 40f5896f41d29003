import ctypes


class A:
    def __del__(self):
        print("del of what C holds")


box = ctypes.py_object(A())
array = (ctypes.py_object * 2)(A(), 1)
