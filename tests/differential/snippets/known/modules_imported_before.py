# By design: what was imported before the fork need not be imported in every run.
import sys

print(sorted(sys.modules))
