import threading


def shutdown():
    print("shutdown")
    raise ValueError("in shutdown")


threading._shutdown = shutdown
