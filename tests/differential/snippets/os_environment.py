import os

print(sorted(os.environ))
print({k: v for k, v in os.environ.items() if k != "HOSTNAME"})
print(os.path.expanduser("~"), os.getenv("PYTHONPATH"), os.getenv("HOME"))
