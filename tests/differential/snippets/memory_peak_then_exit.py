x = bytearray(100 << 20)
print(len(x))
