import threading


def tracer(frame, event, arg):
    if frame.f_code.co_filename == __file__:
        seen.append((event, frame.f_code.co_name))
    return tracer


seen = []
threading.settrace(tracer)
t = threading.Thread(target=lambda: 1)
t.start()
t.join()
threading.settrace(None)
print(seen)
