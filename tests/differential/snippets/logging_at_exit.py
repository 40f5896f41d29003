import atexit
import logging


class A:
    def __del__(self):
        logging.warning("from del")


a = A()
atexit.register(logging.warning, "from atexit")
logging.basicConfig(format="%(message)s")
