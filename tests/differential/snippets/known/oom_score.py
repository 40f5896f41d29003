# By design: out of memory takes the snippet and not the runner.
print(open("/proc/self/oom_score_adj").read())
