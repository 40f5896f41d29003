import linecache

print(linecache.getline(__file__, 3))
