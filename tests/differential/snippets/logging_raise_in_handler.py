import logging


class H(logging.Handler):
    def emit(self, record):
        try:
            1 / 0
        except ZeroDivisionError:
            self.handleError(record)


logging.getLogger().addHandler(H())
logging.warning("message %s", 1)
