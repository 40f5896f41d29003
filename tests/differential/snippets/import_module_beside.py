with open("beside.py", "w") as f:
    f.write("print('imported', __name__, __file__)\nx = 1\ndef f():\n    raise ValueError('beside')\n")
import beside

print(beside.x)
beside.f()
