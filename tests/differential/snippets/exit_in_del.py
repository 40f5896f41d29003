class A:
    def __del__(self):
        raise SystemExit(5)


a = A()
del a
print("still here")
b = A()
