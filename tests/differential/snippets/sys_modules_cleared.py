import sys

print("main")
sys.modules.clear()
