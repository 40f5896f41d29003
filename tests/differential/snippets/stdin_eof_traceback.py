x = input("prompt without newline: ")
