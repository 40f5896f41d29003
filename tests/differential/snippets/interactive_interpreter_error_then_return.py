import code

code.InteractiveInterpreter(locals=globals()).runsource("1/0")
print("fine")
