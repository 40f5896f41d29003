import logging
import sys

logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(name)s %(filename)s:%(lineno)d %(funcName)s %(message)s %(processName)s %(threadName)s")
logging.debug("debug %s", 1)


def f():
    try:
        1 / 0
    except ZeroDivisionError:
        logging.exception("failed", stack_info=True)


f()
logging.getLogger("x").critical("bad %d", "args")
