import threading


class Local(threading.local):
    def __del__(self):
        print("local gone")


x = Local()
