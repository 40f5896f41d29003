import subprocess

p = subprocess.Popen(["sort"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
print(p.communicate("b\na\n"))
print(subprocess.getoutput("echo a | tr a b"), subprocess.getstatusoutput("exit 3"))
