try:
    compile("a b", "<string>", "exec")
except SyntaxError as error:
    print(error, error.lineno, error.offset, error.text, error.filename)
eval("1 +")
