"""Real traffic through IPVS by every road: each case programs the table and asks as a client would.

One kernel is enough: its own namespace is the director, `server31`, `server41` and `client` are network namespaces on a
switch (`NETWORK`). Servers and client are sockets of this process, each made in its namespace. To be run as root in a
kernel of its own, `python -m tests.kernel.traffic_guest`; prints one JSON object a line, as `contract_guest` does.
Afterwards the real servers still hold the VIPs and answer nobody; the director no longer holds the IPv4 one.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from msgspec.structs import replace

from hafsm.core.ipvs import DestinationEntry, ServiceEntry, TableEntry
from hafsm.core.settings import Forwarding
from hafsm.kernel.linux import LinuxKernel
from tests.kernel.contract_guest import Bench, report

VIP, VIP6 = "192.168.2.232", "2001:db8::232"
REALS = {"server31": ("192.168.2.31", "2001:db8::31"), "server41": ("192.168.2.41", "2001:db8::41")}
CLIENTS = tuple(f"192.168.2.{number}" for number in range(101, 105))
CLIENT6 = "2001:db8::101"
PORTS = (8001, 8002)
PATIENCE_S = 5.0
CLONE_NEWNET = 0x40000000
IPPROTO_SCTP = 132

NETWORK = """
set -e
modprobe -a veth bridge ipv6 ipip sit sctp
ip netns add switch
ip -n switch link add lan type bridge stp_state 0 forward_delay 0
ip -n switch link set lan up
ip link add eth0 type veth peer name director netns switch
ip -n switch link set director master lan up
for host in server31 server41 client; do
    ip netns add $host
    ip -n $host link set lo up
    ip -n switch link add $host type veth peer name eth0 netns $host
    ip -n switch link set $host master lan up
    ip -n $host link set eth0 up
done
ip link set eth0 up
ip addr add 192.168.2.40/24 brd + dev eth0
ip addr add 2001:db8::40/64 dev eth0 nodad
for n in 101 102 103 104; do ip -n client addr add 192.168.2.$n/24 brd + dev eth0; done
ip -n client addr add 2001:db8::101/64 dev eth0 nodad
for n in 31 41; do
    ip -n server$n addr add 192.168.2.$n/24 brd + dev eth0
    ip -n server$n addr add 2001:db8::$n/64 dev eth0 nodad
    ip netns exec server$n sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
done
"""
"""The switch and what is plugged in; a real server that holds the VIP keeps silent about it."""

HOLD_THE_VIP = """
set -e
for n in 31 41; do
    ip -n server$n addr add 192.168.2.232/32 dev lo
    ip -n server$n addr add 2001:db8::232/128 dev lo nodad
    for device in tunl0 sit0; do
        ip -n server$n link set $device up
        ip netns exec server$n sysctl -q -w net.ipv4.conf.$device.rp_filter=0
    done
    ip netns exec server$n sysctl -q -w net.ipv4.conf.all.rp_filter=0
done
ip addr add 192.168.2.232/32 dev eth0
ip addr add 2001:db8::232/128 dev eth0 nodad
"""
"""Direct routing and tunnels: director and real servers hold the VIPs."""

BEHIND_THE_DIRECTOR = """
set -e
for n in 31 41; do
    ip -n server$n addr del 192.168.2.232/32 dev lo
    ip netns exec server$n sysctl -q -w net.ipv4.conf.all.accept_redirects=0 net.ipv4.conf.eth0.accept_redirects=0
    ip -n server$n addr del 192.168.2.$n/24 dev eth0
    ip -n server$n addr add 192.168.2.$n/32 dev eth0
    ip -n server$n route add 192.168.2.254 dev eth0 scope link
    ip -n server$n route add default via 192.168.2.254 src 192.168.2.$n
done
sysctl -q -w net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0
"""
"""NAT on the same wire: real servers know nobody but the director's second VIP, 192.168.2.254, their gateway."""

MARK = """
set -e
modprobe -a sch_ingress cls_flower act_skbedit
tc qdisc add dev eth0 ingress
tc filter add dev eth0 ingress protocol ip prio 1 flower dst_ip 192.168.2.232 ip_proto tcp action skbedit mark 7
tc filter add dev eth0 ingress protocol ipv6 prio 2 flower dst_ip 2001:db8::232 ip_proto tcp action skbedit mark 7
"""
"""This kernel has no nftables for IP; IPVS does not care who marks."""

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Sockets made here belong to a network namespace."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        assert _libc.setns(there, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        yield
    finally:
        _libc.setns(home, CLONE_NEWNET)
        os.close(there)
        os.close(home)


class Servers:
    """Every real server answers what it hears with its name, on TCP, UDP and SCTP, as long as it is asked."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        for name in REALS:
            with inside(name):
                for port in PORTS:
                    self._listen(name, "::", port, socket.IPPROTO_TCP)
                # An answer must come from the address that was asked.
                self._listen(name, VIP, PORTS[0], IPPROTO_SCTP)
                for address in (VIP, VIP6):
                    udp = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
                    udp.bind((address, PORTS[0]))
                    self._selector.register(udp, selectors.EVENT_READ, self._answering_datagrams(udp, name))
        threading.Thread(target=self._serve, daemon=True).start()

    def _listen(self, name: str, address: str, port: int, protocol: int) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(64)

        def accept() -> None:
            connection, _ = listener.accept()
            self._selector.register(connection, selectors.EVENT_READ, self._answering(connection, name))

        self._selector.register(listener, selectors.EVENT_READ, accept)

    def _answering(self, connection: socket.socket, name: str) -> Callable[[], None]:
        def answer() -> None:
            try:
                if connection.recv(4096):
                    connection.sendall(name.encode())
                    return
            except OSError:
                pass
            self._selector.unregister(connection)
            connection.close()

        return answer

    def _answering_datagrams(self, udp: socket.socket, name: str) -> Callable[[], None]:
        def answer() -> None:
            _, sender = udp.recvfrom(4096)
            udp.sendto(name.encode(), sender)

        return answer

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                key.data()


class Connection:
    """A client's connection, or with UDP its socket."""

    def __init__(self, place: tuple[str, int], source: str = "", kind: int = socket.SOCK_STREAM, protocol: int = 0):
        self._place = place
        v6 = ":" in place[0]
        with inside("client"):
            self._socket = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, kind, protocol)
        self._socket.settimeout(PATIENCE_S)
        self._socket.bind((source or (CLIENT6 if v6 else CLIENTS[0]), 0))
        self._socket.connect(place)

    def ask(self) -> str:
        """Who answers on this connection."""
        self._socket.send(b"who")
        return self._socket.recv(4096).decode()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def ask(place: tuple[str, int], source: str = "") -> str:
    """Who answers a new TCP connection."""
    with Connection(place, source) as connection:
        return connection.ask()


def destinations(forwarding: Forwarding, *, v6: bool = False, port: int = PORTS[0]) -> tuple[DestinationEntry, ...]:
    return tuple(
        DestinationEntry(address=addresses[v6], port=port, forwarding=forwarding, weight=1)
        for addresses in REALS.values()
    )


def tcp(address: str = VIP, **more: object) -> ServiceEntry:
    return ServiceEntry(**{"protocol": "tcp", "address": address, "port": PORTS[0], "scheduler": "rr", **more})


def both_in_turn(answers: list[str]) -> bool:
    return all(one != other for one, other in pairwise(answers)) and set(answers) == set(REALS)


def received(device: str) -> int:
    """Packets that came out of a tunnel, on both real servers together."""
    total = 0
    for name in REALS:
        shown = subprocess.run(
            ["ip", "-n", name, "-s", "link", "show", device], check=True, capture_output=True, text=True
        ).stdout.splitlines()
        total += int(shown[3].split()[1])
    return total


def direct_routing_carries_both_families(bench: Bench) -> None:
    for address in (VIP, VIP6):
        bench.fill(
            TableEntry(service=tcp(address), destinations=destinations(Forwarding.GATE, v6=address == VIP6)),
        )
        assert both_in_turn([ask((address, PORTS[0])) for _ in range(4)]), address


def a_tunnel_carries_one_family_in_the_other(bench: Bench) -> None:
    """An IPv6 service with real servers of IPv4 (sit), beside an IPv4 service in IPv4 (ipip)."""
    for address, device in ((VIP, "tunl0"), (VIP6, "sit0")):
        before = received(device)
        bench.fill(TableEntry(service=tcp(address), destinations=destinations(Forwarding.IPIP)))
        assert both_in_turn([ask((address, PORTS[0])) for _ in range(4)]), address
        assert received(device) > before, f"nothing came out of {device}"


def one_packet_scheduling_spreads_the_datagrams_of_one_socket(bench: Bench) -> None:
    for address in (VIP, VIP6):
        dns = tcp(address, protocol="udp")
        for one_packet in (True, False):
            entry = TableEntry(
                service=replace(dns, one_packet=one_packet),
                destinations=destinations(Forwarding.GATE, v6=address == VIP6),
            )
            bench.fill(entry)
            with Connection((address, PORTS[0]), kind=socket.SOCK_DGRAM) as connection:
                answers = [connection.ask() for _ in range(6)]
            assert both_in_turn(answers) if one_packet else len(set(answers)) == 1, (address, answers)


def a_mark_joins_ports_and_persistence_keeps_them_together(bench: Bench) -> None:
    """What is marked is one service; a persistent client stays at its real server on both ports."""
    subprocess.run(["sh", "-c", MARK], check=True)
    try:
        for address, family in ((VIP, ""), (VIP6, "::")):
            marked = ServiceEntry(protocol="fwm", address=family, port=0, mark=7, scheduler="rr")
            reals = destinations(Forwarding.GATE, v6=address == VIP6, port=0)
            bench.fill(TableEntry(service=marked, destinations=reals))
            assert both_in_turn([ask((address, PORTS[number % 2])) for number in range(4)]), address
            bench.fill(TableEntry(service=replace(marked, persistent_s=60), destinations=reals))
            assert len({ask((address, port)) for port in PORTS * 2}) == 1, address
    finally:
        subprocess.run(["tc", "qdisc", "del", "dev", "eth0", "ingress"], check=True)


def persistence_counts_by_the_netmask(bench: Bench) -> None:
    reals = destinations(Forwarding.GATE)
    bench.fill(TableEntry(service=tcp(persistent_s=60), destinations=reals))
    homes = {source: {ask((VIP, PORTS[0]), source) for _ in range(3)} for source in CLIENTS}
    assert all(len(home) == 1 for home in homes.values()), homes
    assert set.union(*homes.values()) == set(REALS), homes
    bench.fill()
    bench.fill(TableEntry(service=tcp(persistent_s=60, netmask="255.255.255.0"), destinations=reals))
    assert len({ask((VIP, PORTS[0]), source) for source in CLIENTS}) == 1


def sctp_is_carried(bench: Bench) -> None:
    bench.fill(TableEntry(service=tcp(protocol="sctp"), destinations=destinations(Forwarding.GATE)))
    answers = []
    for _ in range(4):
        with Connection((VIP, PORTS[0]), protocol=IPPROTO_SCTP) as connection:
            answers.append(connection.ask())
    assert both_in_turn(answers), answers


def a_quiesced_server_keeps_its_connections_and_a_removed_one_does_not(bench: Bench) -> None:
    first, second = destinations(Forwarding.GATE)
    bench.fill(TableEntry(service=tcp(), destinations=(first,)))
    with Connection((VIP, PORTS[0])) as kept:
        assert kept.ask() == "server31"
        bench.fill(TableEntry(service=tcp(), destinations=(replace(first, weight=0), second)))
        assert kept.ask() == "server31"
        assert {ask((VIP, PORTS[0])) for _ in range(3)} == {"server41"}
        bench.fill(TableEntry(service=tcp(), destinations=(second,)))
        try:
            kept.ask()
        except OSError:
            return
        raise AssertionError("a removed server still answers")


def an_upper_threshold_sends_the_next_one_elsewhere(bench: Bench) -> None:
    first, second = destinations(Forwarding.GATE)
    bench.fill(TableEntry(service=tcp(scheduler="wrr"), destinations=(replace(first, upper_threshold=1), second)))
    held = []
    try:
        for _ in range(4):
            held.append(Connection((VIP, PORTS[0])))
        answers = Counter(connection.ask() for connection in held)
        assert answers == {"server31": 1, "server41": 3}, answers
    finally:
        for connection in held:
            connection.__exit__()


CASES = (
    direct_routing_carries_both_families,
    a_tunnel_carries_one_family_in_the_other,
    one_packet_scheduling_spreads_the_datagrams_of_one_socket,
    a_mark_joins_ports_and_persistence_keeps_them_together,
    persistence_counts_by_the_netmask,
    sctp_is_carried,
    a_quiesced_server_keeps_its_connections_and_a_removed_one_does_not,
    an_upper_threshold_sends_the_next_one_elsewhere,
)


def main() -> None:
    subprocess.run(["sh", "-c", HOLD_THE_VIP], check=True)
    kernel = LinuxKernel()
    kernel.prepare(ipvs=True)
    Servers()
    bench = Bench(kernel, time.monotonic_ns, lambda: time.sleep(0.02))
    for case in CASES:
        bench.fill()
        report(case.__name__, lambda case=case: case(bench))
    bench.fill()
    kernel.close()
    subprocess.run(["ip", "addr", "del", f"{VIP}/32", "dev", "eth0"], check=True)


if __name__ == "__main__":
    os.chdir(Path(__file__).parents[2])
    main()
