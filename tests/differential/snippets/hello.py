print("Hello from pgexec!")
