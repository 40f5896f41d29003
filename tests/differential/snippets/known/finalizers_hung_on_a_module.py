# What was imported before is frozen: it is cleared at the end, but not collected with the snippet.
import json
import string
import threading


class Loud:
    def __init__(self, name):
        self.name = name

    def __del__(self):
        print("gone", self.name)


json.loud = Loud("a module's global")
string.Formatter.loud = None
held = {"of": Loud("a global")}
kept = threading.local()
kept.loud = Loud("a thread's local")
del kept
json.detect_encoding, was = len, json.detect_encoding
print(was(b"{}"), json.detect_encoding("abc"))
