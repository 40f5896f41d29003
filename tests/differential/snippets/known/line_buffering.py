# By design: combined output keeps its order only if each line is written when it is printed.
import sys

print(sys.stdout.line_buffering)
