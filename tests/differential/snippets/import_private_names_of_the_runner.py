import sys

print([n for n in sys.modules if n.startswith("pool") or "pgexec" in n or n == "sitecustomize"])
import sitecustomize
