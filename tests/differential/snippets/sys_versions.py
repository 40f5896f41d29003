import platform
import sys

print(sys.version, sys.implementation.name, sys.platform, sys.byteorder, sys.maxsize, sys.hexversion)
print(platform.python_version(), platform.machine(), platform.node(), platform.libc_ver())
