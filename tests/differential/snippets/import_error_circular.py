with open("a.py", "w") as f:
    f.write("from b import y\nx = 1\n")
with open("b.py", "w") as f:
    f.write("from a import x\ny = 1\n")
import a
