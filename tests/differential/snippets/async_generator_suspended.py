async def g():
    try:
        yield 1
    finally:
        print("finally of an async generator")


it = g()
step = it.__anext__()
try:
    step.send(None)
except StopIteration as stop:
    print(stop.value)
