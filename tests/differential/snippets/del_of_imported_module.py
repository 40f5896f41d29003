with open("mod.py", "w") as f:
    f.write("class A:\n    def __del__(self):\n        print('del', __name__)\na = A()\n")
import mod
