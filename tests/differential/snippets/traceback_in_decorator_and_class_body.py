def deco(f):
    raise RuntimeError("no decoration")


class A:
    x = 1

    @deco
    def m(self):
        pass
