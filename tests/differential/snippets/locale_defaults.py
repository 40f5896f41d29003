import codecs
import locale
import sys

print(locale.getpreferredencoding(), locale.getpreferredencoding(False), locale.getlocale())
print(locale.setlocale(locale.LC_CTYPE), locale.setlocale(locale.LC_ALL, ""), locale.localeconv()["decimal_point"])
print(open("/tmp/x", "w").encoding, sys.stdin.encoding, sys.stdin.errors, sys.stdout.errors, sys.stderr.errors)
print(codecs.lookup("utf8").name, len(__import__("os").fsencode("ü\udc80")))
