exec(compile("import sys\nsys.exit(14)", __file__, "exec"))
