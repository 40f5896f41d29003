import sys

print(sys.argv, sys.orig_argv)
print(open("/proc/self/cmdline", "rb").read(), open("/proc/self/comm").read())
import argparse

argparse.ArgumentParser(description="x").parse_args(["--nope"])
