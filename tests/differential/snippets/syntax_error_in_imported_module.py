with open("broken.py", "w") as f:
    f.write("def f(:\n  pass\n")
import broken
