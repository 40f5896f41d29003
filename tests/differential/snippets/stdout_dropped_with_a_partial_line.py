import io
import sys

sys.stdout.write("partial, but flushed when the last reference goes")
sys.stdout = io.StringIO()
sys.__stdout__ = None
print("to nobody")
sys.stderr.write("done\n")
