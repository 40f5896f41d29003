import contextlib
import io

text = io.StringIO()
with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
    print("captured")
    import sys

    sys.stderr.write("too\n")
print(repr(text.getvalue()))
with contextlib.redirect_stdout(sys.stderr):
    print("to stderr")
    1 / 0
