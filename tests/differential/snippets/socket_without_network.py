import socket

try:
    socket.create_connection(("192.0.2.1", 80), timeout=1)
except OSError as error:
    print(error)
a, b = socket.socketpair()
a.send(b"x")
print(b.recv(1), socket.gethostname())
s = socket.create_server(("127.0.0.1", 0))
