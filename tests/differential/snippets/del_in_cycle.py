class A:
    def __del__(self):
        print("del in a cycle")


a = A()
a.self = a
del a
print("main")
