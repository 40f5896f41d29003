import sys

sys.stdout.reconfigure(encoding="iso2022_jp")
sys.stdout.write("日本")
