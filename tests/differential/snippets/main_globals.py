print(sorted(globals()))
print(__name__, __file__, __cached__, __doc__, __package__, __spec__, __builtins__)
print(type(__loader__), __loader__.name, __loader__.path, __loader__.get_filename())
print(globals() is vars(__import__("__main__")), dir())
if __name__ == "__main__":
    print("is main")
