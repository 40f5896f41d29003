import dis
import sys

if sys.version_info >= (3, 11):
    ops = [i.opname for i in dis.get_instructions(sys._getframe().f_code, adaptive=True)]
    print([o for o in ops if "INSTRUMENTED" in o])
