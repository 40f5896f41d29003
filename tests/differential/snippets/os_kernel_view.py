import os

print(os.uname().nodename, open("/proc/sys/kernel/shmmni").read(), os.path.exists("/dev/shm"))
print(sorted(n for n in os.listdir("/dev")), os.listdir("/proc/self/task") == [str(os.getpid())])
