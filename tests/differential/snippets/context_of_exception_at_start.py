try:
    raise ValueError("a")
except ValueError as error:
    print(error.__context__, error.__traceback__.tb_frame.f_back, error.__traceback__.tb_next)
