import os
import signal

print(os.getppid(), os.getcwd(), os.getuid() == os.geteuid() > 0, os.getgid() == os.getuid(), os.getgroups())
print(os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid(), oct(os.umask(0o22)), os.getpriority(0, 0))
print(os.sched_getscheduler(0), signal.pthread_sigmask(signal.SIG_BLOCK, []), os.cpu_count() > 0)
print([line for line in open("/proc/self/status") if line[:6] in ("CapEff", "CapInh", "CapPrm", "CapBnd", "NoNewP", "SigIgn", "SigCgt", "SigBlk", "Secco", "Groups", "Thread")])
