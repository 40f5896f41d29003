class Bad(Exception):
    def __str__(self):
        raise RuntimeError("no string")


raise Bad
