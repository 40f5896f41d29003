import os

print(len(os.listdir("/proc/self/fd")) > 0, open("/proc/self/maps").readline() != "")
print(os.stat("/proc/self").st_uid == os.getuid())
open("/proc/self/oom_score_adj").read()
open("/proc/self/comm", "w").write("renamed")
print(open("/proc/self/comm").read())
