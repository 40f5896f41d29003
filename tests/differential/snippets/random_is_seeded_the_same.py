import random

random.seed(42)
print(random.random(), random.sample(range(100), 5), random.choice("abc"))
random.seed("text")
print(random.getrandbits(64), random.gauss(0, 1))
