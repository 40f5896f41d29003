import getpass
import os

print(getpass.getuser(), os.environ["USER"], os.environ["LOGNAME"])
print(os.cpu_count(), os.environ["OMP_NUM_THREADS"])
