print(open(0).read().splitlines())
