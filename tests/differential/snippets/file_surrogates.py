import sys

sys.stderr.write("stderr \udc80\ud800\n")
print("stdout escapes \udc80")
print("stdout cannot \ud800")
