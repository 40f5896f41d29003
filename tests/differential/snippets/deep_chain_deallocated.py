it = iter(())
for _ in range(15_000):
    it = filter(None, it)
print("built")
