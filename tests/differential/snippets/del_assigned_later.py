class A:
    pass


a = A()
A.__del__ = lambda self: print("assigned later")
