# since 3.13
# The interpreter imports `traceback` when it has one to print, and where that fails prints a
# simpler one. Here it was imported before.
import sys

sys.path.clear()
sys.path_hooks.clear()
sys.meta_path.clear()
1 / 0
