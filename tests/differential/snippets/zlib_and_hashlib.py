import gzip
import hashlib
import zlib

print(zlib.crc32(b"x"), hashlib.md5(b"x").hexdigest(), gzip.decompress(gzip.compress(b"x")))
gzip.decompress(b"nonsense")
