code = compile("def f():\n    1/0\nf()\n", "<made up>", "exec")
exec(code)
