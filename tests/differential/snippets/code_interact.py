import code

code.interact(local={"x": 4})
print("after")
