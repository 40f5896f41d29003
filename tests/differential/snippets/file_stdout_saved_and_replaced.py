import io
import sys

saved = sys.stdout
saved.write("buffered in the saved one")
sys.stdout = io.StringIO()
print("swallowed")
