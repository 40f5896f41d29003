class A:
    def __del__(self):
        print("del among many")


keep = [[i] for i in range(100_000)]
keep.append(A())
