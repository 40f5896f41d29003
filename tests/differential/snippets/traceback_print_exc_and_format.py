import sys
import traceback

try:
    [].pop()
except IndexError:
    traceback.print_exc()
    print(traceback.format_exc())
    print(traceback.extract_tb(sys.exc_info()[2]))
traceback.print_stack()
traceback.print_exc()
