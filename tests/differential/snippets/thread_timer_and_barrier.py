import threading

results = []
barrier = threading.Barrier(3)
threads = [threading.Thread(target=lambda i=i: results.append((barrier.wait() >= 0, i))) for i in range(3)]
[t.start() for t in threads]
[t.join() for t in threads]
timer = threading.Timer(0.05, print, ("timer",))
timer.start()
print(sorted(results))
