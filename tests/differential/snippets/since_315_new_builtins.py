class A:
    def __init__(self, name):
        self.name = name

    def __del__(self):
        print("gone", self.name)


MISSING = sentinel("MISSING")
table = frozendict(a=A("in a frozendict"), b=MISSING)
held = {table["b"]: A("by a sentinel")}
numbers = [*part for part in ([1, 2], [3])]
print(MISSING, list(table), numbers, hash(frozendict(x=1)) == hash(frozendict(x=1)))
