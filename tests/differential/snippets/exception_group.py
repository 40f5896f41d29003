def boom(i):
    raise ValueError(i)


errors = []
for i in range(3):
    try:
        boom(i)
    except ValueError as error:
        errors.append(error)
raise ExceptionGroup("several", [*errors, ExceptionGroup("inner", [TypeError("t")])])
