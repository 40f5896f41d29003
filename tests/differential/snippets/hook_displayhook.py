import sys

sys.displayhook(42)
sys.displayhook("ü")
sys.breakpointhook
