import code
import sys

code.InteractiveInterpreter().runsource("1/0")
sys.exit(5)
