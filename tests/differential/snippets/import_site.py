import site
import sys

print(site.ENABLE_USER_SITE, "site" in sys.modules)
print(sys.prefix, sys.exec_prefix, sys.base_prefix, sys.executable, sys.platlibdir)
