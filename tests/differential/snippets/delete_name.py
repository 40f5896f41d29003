del __name__
print("a")
