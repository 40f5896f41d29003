# An audit hook stays to the end and sees what asks the collector whether to leave at once.
import os
import sys

sys.addaudithook(lambda name, args: os.write(1, name.encode() + b"\n"))
