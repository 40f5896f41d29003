with open(__file__, "w") as f:
    f.write("# other\n" * 8)
x = 1
y = 2
raise RuntimeError("the source has changed")
