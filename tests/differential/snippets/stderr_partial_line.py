import sys

sys.stderr.write("no newline")
print("out")
sys.stderr.write(" and more")
