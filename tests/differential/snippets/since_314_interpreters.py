from concurrent import interpreters
from concurrent.futures import InterpreterPoolExecutor

one = interpreters.create()
queue = interpreters.create_queue()
one.prepare_main(queue=queue)
one.exec("""
import sys
class A:
    def __del__(self, put=queue.put):
        print("gone in a subinterpreter", file=sys.stderr)
a = A()
queue.put(sorted(name for name in sys.modules if name.startswith(("pool", "site"))))
""")
print(queue.get())
try:
    one.exec("1/0")
except interpreters.ExecutionFailed as error:
    print(error)
one.close()
with InterpreterPoolExecutor(2) as pool:
    print(list(pool.map(pow, range(4), [2] * 4)))
left = interpreters.create()
left.exec("f = open('/dev/stderr', 'w'); f.write('unflushed')")
