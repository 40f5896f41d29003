import sys


class Err:
    def write(self, text):
        sys.stdout.write("E:" + text)


sys.stderr = Err()
1 / 0
