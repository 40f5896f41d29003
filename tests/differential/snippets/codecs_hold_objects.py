import codecs
import os


class Loud:
    def __init__(self, name):
        self.name = name

    def __call__(self, name):
        return None

    def __del__(self, write=os.write):
        write(1, b"gone " + self.name.encode() + b"\n")


codecs.register(Loud("a search function"))
codecs.register_error("loud", Loud("an error handler"))


class Encode(Loud):
    def __call__(self, text, errors="strict"):
        return text.encode(), len(text)


info = codecs.CodecInfo(Encode("a codec"), None, name="loud")
codecs.register({"louder": info}.get)
print("x".encode("louder"))
