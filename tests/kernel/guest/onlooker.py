"""Writes down every change of this machine's IPv4 addresses and IPVS table: onlooker.py FILE INTERVAL. Standard
library only, and nothing of hafsm: it is the witness against it.

Addresses come as rtnetlink tells them, the table is read from /proc/net/ip_vs every INTERVAL seconds. FILE belongs to
the other side of a hostfs, which has each line as soon as it is written, whatever becomes of this machine a moment
later. Times are nanoseconds of CLOCK_BOOTTIME, as in the journal. One JSON list a line:

    ["began", at, boot_id, wall_ns, ["192.168.2.40/24", ...], table]     first line: what was there already
    ["held", since, at, "192.168.2.232/24", valid_s]                     added or renewed; valid_s null: for good
    ["gone", since, at, "192.168.2.232/24"]
    ["table", since, at, table]                                          another table than before
    ["alive", at, wall_ns]                                               every second
    ["deaf", at]                                                         the kernel told more than could be heard

A change was made after `since`, when it was not there yet, and not after `at`, when it was seen. A table is
{"tcp:192.168.2.232:80": ["rr", {"192.168.2.31:80": "Route 1", ...}], ...}.
"""

import errno
import json
import os
import select
import socket
import struct
import sys
import time

RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
REQUEST_DUMP = 0x301
DONE = 3
GROUP_IPV4_ADDRESSES = 0x10
IFA_LOCAL, IFA_CACHEINFO = 2, 6
FOREVER = 0xFFFFFFFF
HEADER = struct.Struct("=IHHII")
ADDRESS = struct.Struct("=BBBBI")
ATTRIBUTE = struct.Struct("=HH")
TABLE = "/proc/net/ip_vs"
ALIVE_EVERY_NS = 1_000_000_000


def now():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def messages(data):
    """(type, address with prefix, valid_s) of each message that is about an IPv4 address; DONE alone."""
    while len(data) >= HEADER.size:
        length, kind, _, _, _ = HEADER.unpack_from(data)
        body, data = data[HEADER.size : length], data[(length + 3) & ~3 :]
        if kind == DONE:
            yield kind, "", None
        if kind not in (RTM_NEWADDR, RTM_DELADDR):
            continue
        family, prefix, _, _, _ = ADDRESS.unpack_from(body)
        if family != socket.AF_INET:
            continue
        body = body[ADDRESS.size :]
        ip, valid = "", None
        while len(body) >= ATTRIBUTE.size:
            size, name = ATTRIBUTE.unpack_from(body)
            value = body[ATTRIBUTE.size : size]
            if name == IFA_LOCAL:
                ip = socket.inet_ntoa(value)
            elif name == IFA_CACHEINFO:
                valid = struct.unpack_from("=II", value)[1]
            body = body[(size + 3) & ~3 :]
        yield kind, f"{ip}/{prefix}", None if valid == FOREVER else valid


def held():
    """The addresses that are there, by a socket of its own."""
    found, done = [], False
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as route:
        route.bind((0, 0))
        route.send(HEADER.pack(HEADER.size + 4, RTM_GETADDR, REQUEST_DUMP, 1, 0) + bytes([socket.AF_INET, 0, 0, 0]))
        while not done:
            for kind, address, _ in messages(route.recv(1 << 16)):
                if kind == DONE:
                    done = True
                else:
                    found.append(address)
    return found


def place(word):
    """192.168.2.232:80 of C0A802E8:0050."""
    ip, port = word.split(":")
    return f"{socket.inet_ntoa(bytes.fromhex(ip))}:{int(port, 16)}"


def read_table():
    """Its IPv4 services; without the module there are none."""
    try:
        with open(TABLE) as file:  # noqa: PTH123  # importing pathlib takes a tenth of a second in a node
            lines = file.read().splitlines()[3:]
    except FileNotFoundError:
        return {}
    table, destinations = {}, {}
    for line in lines:
        words = line.split()
        if words[0] == "->":
            destinations[place(words[1])] = f"{words[2]} {words[3]}"
        else:
            destinations = {}
            table[f"{words[0].lower()}:{place(words[1])}"] = [words[2], destinations]
    return table


def main():
    out = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    interval = float(sys.argv[2])

    def tell(*fields):
        os.write(out, json.dumps(fields).encode() + b"\n")

    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(90))  # above the daemon: it looks when it is time
    route = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    route.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    route.bind((0, GROUP_IPV4_ADDRESSES))
    route.setblocking(False)
    with open("/proc/sys/kernel/random/boot_id") as file:  # noqa: PTH123
        boot = file.read().strip()
    silent = looked = alive = now()
    table = read_table()
    tell("began", looked, boot, time.time_ns(), held(), table)
    while True:
        select.select([route], [], [], interval)
        while True:
            asked = now()
            try:
                data = route.recv(1 << 16)
            except BlockingIOError:
                silent = asked
                break
            except OSError as problem:
                if problem.errno != errno.ENOBUFS:
                    raise
                tell("deaf", asked)
                continue
            for kind, address, valid in messages(data):
                if kind == RTM_NEWADDR:
                    tell("held", silent, now(), address, valid)
                elif kind == RTM_DELADDR:
                    tell("gone", silent, now(), address)
        began = now()
        if began - looked >= interval * 1e9:
            found = read_table()
            if found != table:
                tell("table", looked, now(), found)
                table = found
            looked = began
        if began - alive >= ALIVE_EVERY_NS:
            alive = began
            tell("alive", began, time.time_ns())


if __name__ == "__main__":
    main()
