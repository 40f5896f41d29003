import sys

try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
i = interpreters.create()
interpreters.run_string(i, "import atexit; atexit.register(print, 'sub atexit'); print('in a subinterpreter')")
sys.stdout.flush()
