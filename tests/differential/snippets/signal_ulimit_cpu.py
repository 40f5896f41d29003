import resource

print("x", flush=True)
resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
open("big", "w").write("x" * 100)
