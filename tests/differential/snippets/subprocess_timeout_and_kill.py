import subprocess

try:
    subprocess.run(["sleep", "5"], timeout=0.1)
except subprocess.TimeoutExpired as error:
    print(error.cmd, error.output)
p = subprocess.Popen(["sleep", "5"])
p.terminate()
print(p.wait())
