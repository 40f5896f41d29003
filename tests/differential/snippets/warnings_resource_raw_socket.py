import _socket
import warnings

warnings.simplefilter("always")
s = _socket.socket()
