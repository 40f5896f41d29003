import os

print(sorted(int(n) for n in os.listdir("/proc/self/fd")))
for fd in range(3):
    print(fd, os.readlink(f"/proc/self/fd/{fd}").partition(":")[0], oct(os.fstat(fd).st_mode), os.isatty(fd))
    print(os.get_inheritable(fd), os.get_blocking(fd))
print(os.open("/dev/null", os.O_RDONLY))
