import faulthandler
import time

faulthandler.dump_traceback_later(0.1, exit=True)
time.sleep(5)
