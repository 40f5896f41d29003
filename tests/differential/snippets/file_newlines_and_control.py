print("a\r\nb\rc\n\n\td\x0b\x0c\x1b[31m\x00\x7f", end="")
