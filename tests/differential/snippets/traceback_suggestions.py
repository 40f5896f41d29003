class Thing:
    colour = 1


try:
    Thing().color
except AttributeError as error:
    import traceback

    traceback.print_exception(type(error), error, error.__traceback__)
undefined_nam = 1
print(undefined_name)
