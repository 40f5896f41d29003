# Those that end the run are callbacks, too.
import atexit

print(atexit._ncallbacks())
