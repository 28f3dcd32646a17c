"""A web client that asks and writes down what it saw: asker.py ADDRESS PORT TIMEOUT INTERVAL SOURCE... Standard
library only.

One JSON line a question when it ends: [monotonic seconds at its start, seconds it took, body or null, error or
null]. INTERVAL 0 asks once. Otherwise a new question starts every INTERVAL seconds whatever became of those
before, each from the next SOURCE address and a new port, so that neither a lost answer nor a connection entry
that lingers hides the state of the service.
"""

import itertools
import json
import socket
import sys
import threading
import time


def ask(target, source, timeout):
    started = time.monotonic()
    body = error = None
    try:
        with socket.create_connection(target, timeout, source_address=(source, 0)) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\nHost: service\r\n\r\n")
            answer = b""
            while chunk := connection.recv(4096):
                answer += chunk
                connection.settimeout(max(0.001, started + timeout - time.monotonic()))
        head, _, rest = answer.partition(b"\r\n\r\n")
        if head.split(b" ")[1:2] == [b"200"]:
            body = rest.decode().strip()
        else:
            error = f"answer {head[:60]!r}"
    except OSError as problem:
        error = f"{type(problem).__name__}: {problem}"
    line = json.dumps([started, time.monotonic() - started, body, error])
    sys.stdout.write(line + "\n")  # one write, so that threads do not mix their lines
    sys.stdout.flush()


def main():
    address, port, timeout, interval = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
    sources = itertools.cycle(sys.argv[5:])
    if not interval:
        ask((address, port), next(sources), timeout)
        return
    following = time.monotonic()
    while True:
        threading.Thread(target=ask, args=((address, port), next(sources), timeout), daemon=True).start()
        following += interval
        time.sleep(max(0, following - time.monotonic()))


if __name__ == "__main__":
    main()
