import enum


class E(enum.Enum):
    A = 1

    def __del__(self):
        print("del of a member")


print(E.A)
