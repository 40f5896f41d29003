import os
import sys

print(sys.path, os.getcwd(), sys.path[0] == os.path.dirname(__file__))
