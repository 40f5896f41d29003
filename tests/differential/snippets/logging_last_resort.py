import logging

logging.warning("root warning")
logging.getLogger("a.b").error("error without handlers before?")
logging.info("hidden")
