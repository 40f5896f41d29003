import atexit
import os
import subprocess

f = open("out.txt", "w")
f.write("text")
print(os.path.getsize("out.txt"))
