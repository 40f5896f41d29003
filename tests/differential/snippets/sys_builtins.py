import builtins

print(dir(builtins))
print(type(exit), type(copyright), repr(quit), help)
