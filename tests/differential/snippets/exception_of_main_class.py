class Mine(Exception):
    pass


class Outer:
    class Nested(Mine):
        pass


raise Outer.Nested("qualified")
