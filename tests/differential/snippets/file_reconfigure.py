import sys

sys.stdout.reconfigure(encoding="utf-16-le", newline="\r\n")
print("wide")
sys.stdout.reconfigure(encoding="ascii", errors="xmlcharrefreplace", newline=None)
print("größe")
