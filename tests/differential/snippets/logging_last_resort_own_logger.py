import logging

logging.getLogger("mine").warning("last resort")
logging.getLogger("mine").info("hidden")
