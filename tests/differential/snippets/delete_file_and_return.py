del __file__, __cached__
print(sorted(globals()))
