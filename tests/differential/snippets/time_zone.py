import datetime
import time

print(time.tzname, time.timezone, time.daylight, time.gmtime(0).tm_year, time.strftime("%Z", time.localtime(0)))
print(datetime.datetime.fromtimestamp(0), datetime.datetime.now().tzinfo, datetime.datetime.now().year > 2000)
print(time.get_clock_info("monotonic").implementation)
