import os
import pwd

try:
    pwd.getpwuid(os.getuid())
except KeyError as error:
    print("no such user")
import getpass

print(os.environ.get("USER"))
