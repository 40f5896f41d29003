import sys

print(sys.exc_info(), sys.exc_info() == (None, None, None))
try:
    raise ValueError("context?")
except ValueError as error:
    print(error.__context__, error.__cause__)
raise
