"""A web server as small as a laboratory needs: httpd.py PORT PAGE [PIDFILE]. Standard library only.

`GET /` and `GET /index.html` are answered with PAGE, anything else with 404; one thread a connection, so that a
silent client holds up nobody. With PIDFILE it goes into the background once it listens, so its caller returns
when it can be asked.
"""

# Importing pathlib takes a tenth of a second in a node.
# ruff: noqa: PTH123

import _thread
import os
import socket
import sys

PATIENCE_S = 5


def answer(connection, page):
    with connection:
        connection.settimeout(PATIENCE_S)
        try:
            head = b""
            while b"\r\n\r\n" not in head and len(head) < 65536:
                chunk = connection.recv(4096)
                if not chunk:
                    return
                head += chunk
            found = head.split(b" ", 2)[1:2] in ([b"/"], [b"/index.html"])
            status, body = (b"200 OK", page) if found else (b"404 Not Found", b"no such page\n")
            connection.sendall(
                b"HTTP/1.0 %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
                % (status, len(body), body)
            )
        except OSError:
            return  # the client went away


def main():
    port, page = int(sys.argv[1]), sys.argv[2].encode() + b"\n"
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", port))
    listener.listen(128)
    if len(sys.argv) > 3:
        child = os.fork()
        if child:
            with open(sys.argv[3], "w") as f:
                f.write(f"{child}\n")
            os._exit(0)
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
    print("listening", flush=True)
    while True:
        _thread.start_new_thread(answer, (listener.accept()[0], page))


if __name__ == "__main__":
    main()
