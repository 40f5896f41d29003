import datetime
import sys

print(datetime.datetime.utcfromtimestamp(0))
"a".format
import ast

ast.Str if sys.version_info < (3, 14) else None
