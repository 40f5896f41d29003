import builtins


class A:
    def __del__(self):
        print("del in builtins")


builtins.mine = A()
