import sys


class Tee:
    def __init__(self, inner):
        self.inner = inner

    def write(self, text):
        self.inner.write(text.upper())

    def flush(self):
        self.inner.write("[flush]\n")


sys.stdout = Tee(sys.stdout)
print("hello")
