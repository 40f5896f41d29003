import io
import os

r, w = os.pipe()
with os.fdopen(w, "w") as f:
    f.write("x")
print(os.read(r, 10))
raw = io.FileIO(os.dup(1), "w")
buffered = io.BufferedWriter(raw)
buffered.write(b"buffered, dropped at the end\n")
del raw
