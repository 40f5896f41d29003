import sys

print(sys.flags, sys.warnoptions, sys._xoptions, sys.dont_write_bytecode, sys.pycache_prefix)
print(sys.flags.utf8_mode, sys.flags.dev_mode, __debug__)
