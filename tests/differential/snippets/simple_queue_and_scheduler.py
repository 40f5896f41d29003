import heapq
import queue
import sched

s = sched.scheduler()
s.enter(0.01, 1, print, ("second",))
s.enter(0, 1, print, ("first",))
s.run()
q = queue.Queue()
q.put(1)
print(q.get(), heapq.nsmallest(2, [3, 1, 2]))
q.get(timeout=0.01)
