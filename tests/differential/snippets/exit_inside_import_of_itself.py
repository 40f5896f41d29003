import sys

if __name__ == "__main__":
    import Main
else:
    sys.exit(16)
