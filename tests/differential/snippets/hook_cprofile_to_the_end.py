import cProfile


class A:
    def __del__(self):
        print("del while profiled")


a = A()
profile = cProfile.Profile()
profile.enable()
