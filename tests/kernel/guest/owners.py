"""Asks the network who has an address, all the time: owners.py ADDRESS SOURCE INTERVAL. Standard library only.

An ARP request is broadcast on eth0 every INTERVAL seconds. One JSON line a request when the next one is due: [monotonic
seconds at which it was sent, hardware addresses that answered since, sorted]. An answer to somebody else's request, and
an announcement, are not counted.
"""

import json
import select
import socket
import struct
import sys
import time

ARP = 0x0806
REQUEST, REPLY = 1, 2
HEADER = struct.Struct("!6s6sHHHBBH6s4s6s4s")


def answers(link, vip, mac, until):
    found = set()
    while (left := until - time.monotonic()) > 0:
        if not select.select([link], [], [], left)[0]:
            break
        frame = link.recv(2048)
        if len(frame) < HEADER.size:
            continue
        target, _, _, _, _, _, _, operation, sender_mac, sender, _, _ = HEADER.unpack_from(frame)
        if operation == REPLY and target == mac and sender == vip:
            found.add(sender_mac.hex(":"))
    return sorted(found)


def main():
    vip, source = (socket.inet_aton(word) for word in sys.argv[1:3])
    interval = float(sys.argv[3])
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ARP))
    link.bind(("eth0", ARP))
    mac = link.getsockname()[4]
    broadcast = b"\xff" * 6
    question = HEADER.pack(broadcast, mac, ARP, 1, 0x0800, 6, 4, REQUEST, mac, source, bytes(6), vip)
    following = time.monotonic()
    while True:
        sent = time.monotonic()
        link.send(question)
        following = max(following + interval, sent)
        sys.stdout.write(json.dumps([sent, answers(link, vip, mac, following)]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
