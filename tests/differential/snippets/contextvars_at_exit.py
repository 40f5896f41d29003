import contextvars


class A:
    def __del__(self):
        print("del from a context variable")


v = contextvars.ContextVar("v")
v.set(A())
print(len(list(contextvars.copy_context())))
