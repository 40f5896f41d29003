import subprocess
import sys

print(subprocess.check_output([sys.executable, "-c", "import Main"], text=True) if len(sys.argv) > 5 else "once")
if __name__ == "__main__":
    print(subprocess.check_output([sys.executable, "-c", "import Main; print(Main.__name__)"], text=True))
