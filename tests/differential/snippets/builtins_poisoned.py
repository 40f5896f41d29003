import builtins

real = builtins.print
builtins.print = lambda *a, **k: real("poisoned", *a, **k)
print("x")
builtins.any = builtins.set = builtins.hasattr = builtins.isinstance = builtins.len = builtins.type = None
