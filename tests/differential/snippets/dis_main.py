import dis
import sys


def f(x):
    return x + 1


dis.dis(f)
print(dis.code_info(f))
print([i.opname for i in dis.get_instructions(sys._getframe().f_code)][:5])
