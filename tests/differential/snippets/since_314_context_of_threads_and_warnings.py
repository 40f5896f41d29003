import contextvars
import sys
import threading
import warnings

word = contextvars.ContextVar("word", default="none")
word.set("set")
print(sys.flags.thread_inherit_context, sys.flags.context_aware_warnings)
thread = threading.Thread(target=lambda: print(word.get(), threading.current_thread().name))
thread.start()
thread.join()
with word.set("inner"):
    print(word.get())
catcher = warnings.catch_warnings()
catcher.__enter__()
warnings.simplefilter("always")
open("/dev/null")
held = open("/dev/null")
