# Merely looking at these classes from outside would print.
class Meta(type):
    def __getattr__(cls, name):
        print("looked up", name)
        raise AttributeError(name)

    def __instancecheck__(cls, instance):
        print("instance check")
        return False


class A(metaclass=Meta):
    pass


a = A()
print("main")
