import subprocess

subprocess.run(["cat"])
