print("first", flush=True)
with open("/dev/stdout", "w") as f:
    print(f.seekable(), flush=True)
    f.write("through /dev/stdout\n")
with open("/proc/self/fd/2", "w") as f:
    f.write("through /proc\n")
open("/dev/stderr", "wb", 0).write(b"through /dev/stderr\n")
