import os

os.close(2)
print("out")
1 / 0
