class Leave(SystemExit):
    pass


try:
    raise Leave(3)
except SystemExit as error:
    error.code = 5
    raise
