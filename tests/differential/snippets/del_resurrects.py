class A:
    def __del__(self):
        global back
        print("del")
        back = self


a = A()
