import threading

print(threading.active_count(), threading.current_thread().name, threading.enumerate() == [threading.main_thread()])
print(threading.current_thread() is threading.main_thread(), threading.main_thread().daemon)
print([threading.Thread().name for _ in range(3)], threading.get_native_id() == __import__("os").getpid())
print(threading.stack_size(), threading.main_thread().ident == threading.get_ident())
