import sqlite3


class Sum:
    def __init__(self):
        self.n = 0

    def step(self, x):
        self.n += x

    def finalize(self):
        print("finalize")
        return self.n

    def __del__(self):
        print("del of an aggregate")


c = sqlite3.connect(":memory:")
c.create_aggregate("mysum", 1, Sum)
cursor = c.execute("select mysum(1) union all select 2")
print(next(cursor))
