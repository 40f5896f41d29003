import sys

if len(sys.argv) > 5:
    pass
else:
    sys.exit(18)
