import subprocess
import warnings

warnings.simplefilter("always")
p = subprocess.Popen(["sleep", "0.1"])
del p
