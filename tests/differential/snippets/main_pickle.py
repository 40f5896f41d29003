import pickle


class A:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return self.x == other.x


def f():
    return 1


print(pickle.loads(pickle.dumps(A(1))) == A(1), pickle.loads(pickle.dumps(f)) is f)
print(pickle.dumps(A, protocol=0))
pickle.dumps(lambda: 1)
