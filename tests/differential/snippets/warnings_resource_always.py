import gc
import socket
import subprocess
import warnings

warnings.simplefilter("always")
f = open("/dev/null")
del f
s = socket.socket()
open("/dev/null")
g = open("/dev/null")
