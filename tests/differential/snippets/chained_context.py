def clean():
    raise OSError(2, "while handling")


try:
    1 / 0
except ZeroDivisionError:
    clean()
