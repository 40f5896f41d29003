import os


class Loud:
    def __init__(self, name):
        self.name = name

    def hook(self):
        pass

    def __del__(self, write=os.write):
        write(1, b"gone " + self.name.encode() + b"\n")


os.register_at_fork(before=Loud("before").hook, after_in_parent=Loud("parent").hook)
os.register_at_fork(after_in_child=Loud("child").hook)
if os.fork() == 0:
    os._exit(0)
os.wait()
