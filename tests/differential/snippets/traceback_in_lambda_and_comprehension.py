g = lambda n: [1 // (i - 2) for i in range(n)]
print(sum(x for x in g(5)))
