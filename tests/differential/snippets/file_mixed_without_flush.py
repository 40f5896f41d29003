import sys

sys.stdout.write("text without newline ")
sys.stdout.buffer.write(b"binary first? ")
sys.stdout.write("end")
