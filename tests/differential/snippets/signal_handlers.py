import signal

for s in sorted(signal.valid_signals()):
    print(s, signal.getsignal(s))
print(signal.set_wakeup_fd(-1), signal.getitimer(signal.ITIMER_REAL))
