import getpass
import warnings

print(getpass.getpass("password: "))
