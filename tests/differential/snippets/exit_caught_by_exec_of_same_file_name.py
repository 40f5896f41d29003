try:
    exec(compile("import sys\nsys.exit(14)", __file__, "exec"))
except SystemExit as error:
    print("caught", error)
