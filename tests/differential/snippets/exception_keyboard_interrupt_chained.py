try:
    1 / 0
except ZeroDivisionError as error:
    raise KeyboardInterrupt from error
