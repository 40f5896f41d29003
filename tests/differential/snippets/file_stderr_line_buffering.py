import sys

print(sys.stderr.line_buffering, sys.stdin.line_buffering)
