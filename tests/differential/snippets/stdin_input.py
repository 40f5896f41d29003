name = input("name? ")
print("hello", name)
print(repr(input()))
try:
    input("more? ")
except EOFError as error:
    print("end", error)
input()
