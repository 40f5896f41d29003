with open("leaves.py", "w") as f:
    f.write("import sys\nprint(__name__)\nsys.exit(9)\n")
import leaves
