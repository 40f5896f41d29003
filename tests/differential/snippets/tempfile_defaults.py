import os
import tempfile

print(tempfile.gettempdir(), tempfile.gettempprefix())
with tempfile.TemporaryDirectory() as d, tempfile.NamedTemporaryFile() as f:
    print(os.path.dirname(d), os.path.dirname(f.name), oct(os.stat(d).st_mode))
left = tempfile.TemporaryDirectory()
kept = tempfile.NamedTemporaryFile(mode="w")
kept.write("x")
