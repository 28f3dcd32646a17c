"""IPv6 VIPs on a real kernel, each promise seen by somebody else: ip, a packet sniffer, a neighbour's kernel.

`SHARED_CASES` are the contract and run against the embedded kernel too (tests/unit_kernel). As a program,
`python -m tests.kernel.ipv6_guest` must be run as root in a network namespace or a kernel of its own, and prints one
JSON object a line, like `contract_guest`.
"""

from __future__ import annotations

import errno
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hafsm.core.settings import SECOND, Address
from hafsm.kernel import linux
from tests.kernel.contract_guest import EDGE_S, Bench, Case, error_of, lay_cables, report, run

OWN = "2001:db8::1"
"""Of this machine, with /64, on lan0."""
WIDE = "2001:db8:5::1"
"""Of this machine, with /48, on lan1."""
SYSCTL = Path("/proc/sys/net/ipv6/conf")


def vip6(ip: str = "2001:db8::10", prefix: int = 64, interface: str = "lan0") -> Address:
    return Address(ip=ip, prefix=prefix, interface=interface)


def shown(ip: str, interface: str = "lan0") -> dict[str, object] | None:
    """What `ip` says about an address."""
    listed = json.loads(run("ip", "-6", "-j", "addr", "show", "dev", interface))
    return next((entry for link in listed for entry in link.get("addr_info", ()) if entry["local"] == ip), None)


def mac_of(interface: str) -> str:
    return str(json.loads(run("ip", "-j", "link", "show", "dev", interface))[0]["address"])


# ---- the contract


def a_lease_that_nobody_renews_ends(bench: Bench) -> None:
    started_ns = bench.now_ns()
    bench.kernel.add_address(vip6(), 2)
    assert bench.kernel.held_addresses((vip6(), vip6(prefix=128), vip6(interface="lan1"))) == (vip6(),)
    bench.eventually(lambda: not bench.kernel.held_addresses((vip6(),)), "the lease ends")
    assert 2 - EDGE_S <= (bench.now_ns() - started_ns) / SECOND <= 2 + EDGE_S


def renewing_extends_a_lease_and_reports_what_is_gone(bench: Bench) -> None:
    left, renewed, added = (vip6(f"2001:db8::1{n}") for n in range(3))
    for address in (left, renewed, added):
        bench.kernel.add_address(address, 2)
    assert bench.kernel.renew_addresses((renewed,), 60) == ()
    bench.kernel.add_address(added, 60)
    bench.eventually(lambda: not bench.kernel.held_addresses((left,)), "the lease that nobody renewed ends")
    assert bench.kernel.renew_addresses((left, renewed, added), 60) == (left,)
    assert bench.kernel.held_addresses((left, renewed, added)) == (renewed, added)


def removing_leaves_the_others_and_may_be_repeated(bench: Bench) -> None:
    first, second = vip6(), vip6("2001:db8::11")
    for address in (first, second):
        bench.kernel.add_address(address, 60)
    for _ in range(2):
        bench.kernel.remove_address(first)
        assert bench.kernel.held_addresses((first, second)) == (second,)


def a_prefix_length_may_be_left_open(bench: Bench) -> None:
    for address in (vip6(prefix=0), vip6(prefix=0, interface="")):
        bench.kernel.add_address(address, 60)
        assert bench.kernel.held_addresses((address,)) == (address,)
        bench.kernel.add_address(address, 60)
        assert bench.kernel.renew_addresses((address,), 60) == ()
        bench.kernel.announce_address(address)
        bench.kernel.remove_address(address)
        assert bench.kernel.held_addresses((address,)) == ()


SHARED_CASES: tuple[Case, ...] = (
    a_lease_that_nobody_renews_ends,
    renewing_extends_a_lease_and_reports_what_is_gone,
    removing_leaves_the_others_and_may_be_repeated,
    a_prefix_length_may_be_left_open,
)


# ---- where an address goes


def without_prefix_the_network_that_holds_it_decides(bench: Bench) -> None:
    for address, interface, prefix in (
        (vip6(prefix=0, interface=""), "lan0", 64),
        (vip6("2001:db8:5::10", 0, ""), "lan1", 48),
        (vip6("2001:db8:5:7::10", 0, "lan1"), "lan1", 48),
        (vip6("fe80::10", 0, "lan1"), "lan1", 64),
        (vip6("2001:db8:5::11", 56, ""), "lan1", 56),
    ):
        bench.kernel.add_address(address, 60)
        entry = shown(address.ip, interface)
        assert entry is not None and entry["prefixlen"] == prefix, f"{address}: {entry}"


def without_a_network_the_route_decides(bench: Bench) -> None:
    run("ip", "-6", "route", "add", "2001:db8:7::/64", "dev", "lan1")
    bench.kernel.add_address(vip6("2001:db8:7::10", 64, ""), 60)
    assert shown("2001:db8:7::10", "lan1") is not None


def without_prefix_and_network_it_is_refused_with_what_to_write(bench: Bench) -> None:
    error = error_of(lambda: bench.kernel.add_address(vip6("2001:db8:9::10", 0, ""), 60))
    assert error.errno == errno.EADDRNOTAVAIL
    assert str(error) == (
        "add address 2001:db8:9::10: EADDRNOTAVAIL (no interface has a network that holds it; write prefix length and "
        "interface, such as 2001:db8:9::10/64/eth0)"
    )
    error = error_of(lambda: bench.kernel.add_address(vip6("2001:db8:9::10", 0, "lan1"), 60))
    assert "(lan1 has no network that holds it; write prefix" in str(error)


def a_copy_on_lo_is_left_alone(bench: Bench) -> None:
    """Of a director that is a real server too."""
    run("ip", "addr", "add", "2001:db8::10/128", "dev", "lo")
    for address in (vip6(prefix=0, interface=""), vip6(interface=""), vip6(prefix=0)):
        assert bench.kernel.held_addresses((address,)) == ()
        bench.kernel.add_address(address, 60)
        assert bench.kernel.held_addresses((address,)) == (address,)
        assert bench.kernel.renew_addresses((address,), 60) == ()
        assert shown("2001:db8::10", "lan0") is not None
        bench.kernel.remove_address(address)
        assert shown("2001:db8::10", "lan0") is None
        entry = shown("2001:db8::10", "lo")
        assert entry is not None and entry["valid_life_time"] == linux.FOREVER_S
    run("ip", "addr", "add", "2001:db8:9::10/128", "dev", "lo")
    error = error_of(lambda: bench.kernel.add_address(vip6("2001:db8:9::10", 64, ""), 60))
    assert error.errno == errno.EADDRNOTAVAIL


def one_that_somebody_left_with_another_prefix_length_is_replaced(bench: Bench) -> None:
    run("ip", "addr", "add", "2001:db8::10/128", "dev", "lan0")
    assert bench.kernel.held_addresses((vip6(),)) == ()
    bench.kernel.add_address(vip6(), 60)
    assert bench.kernel.held_addresses((vip6(),)) == (vip6(),)
    entry = shown("2001:db8::10")
    assert entry is not None and entry["prefixlen"] == 64 and entry["valid_life_time"] <= 60


def an_interface_without_ipv6_is_named(bench: Bench) -> None:
    (SYSCTL / "lan1/disable_ipv6").write_text("1\n")
    error = error_of(lambda: bench.kernel.add_address(vip6("2001:db8:5::10", 48, "lan1"), 60))
    assert error.errno == errno.EACCES
    assert "net.ipv6.conf.lan1.disable_ipv6 keeps IPv6 off lan1" in str(error)


# ---- how it is there


def it_is_usable_at_once(bench: Bench) -> None:
    bench.kernel.add_address(vip6(), 60)
    entry = shown("2001:db8::10")
    assert entry is not None and entry["nodad"] and not entry.keys() & {"tentative", "dadfailed"}, entry
    assert 55 <= entry["valid_life_time"] <= 60 and entry["preferred_life_time"] == 0
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind(("2001:db8::10", 0))
    bench.kernel.renew_addresses((vip6(),), 600)
    entry = shown("2001:db8::10")
    assert entry is not None and entry["nodad"] and not entry.keys() & {"tentative", "dadfailed"}, entry
    assert entry["valid_life_time"] > 60 and entry["preferred_life_time"] == 0


def a_former_owner_that_still_has_it_does_not_matter(bench: Bench) -> None:
    """With duplicate address detection the address would be `dadfailed`, and nobody would ever repair it."""
    with neighbour() as there:
        run(*there, "addr", "add", "2001:db8::10/64", "dev", "far2", "nodad")
        (SYSCTL / "lan2/accept_dad").write_text("1\n")
        bench.kernel.add_address(vip6(interface="lan2"), 60)
        deadline = time.monotonic() + 2.5  # detection would take 1 s, and up to 1 s before
        while time.monotonic() < deadline:
            entry = shown("2001:db8::10", "lan2")
            assert entry is not None and not entry.keys() & {"tentative", "dadfailed"}, entry
            bench.wait()


def connections_of_this_machine_do_not_begin_at_it(bench: Bench) -> None:
    bench.kernel.add_address(vip6(), 60)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.connect(("2001:db8::31", 9))
        assert sock.getsockname()[0] == OWN


def routes_to(network: str, interface: str = "lan0") -> list[dict[str, object]]:
    return list(json.loads(run("ip", "-6", "-d", "-j", "route", "show", network, "dev", interface)))


def the_route_of_the_network_outlives_the_lease(bench: Bench) -> None:
    """Also where it has an end of its own, as routers announce it."""
    run("ip", "addr", "del", f"{OWN}/64", "dev", "lan0")
    run("ip", "addr", "add", f"{OWN}/64", "dev", "lan0", "valid_lft", "3600", "preferred_lft", "3600")
    bench.kernel.add_address(vip6(), 1)
    bench.kernel.renew_addresses((vip6(),), 1)
    (route,) = routes_to("2001:db8::/64")
    assert route["expires"] > 3000, route
    bench.eventually(lambda: shown("2001:db8::10") is None, "the lease ends")
    assert len(routes_to("2001:db8::/64")) == 1


def a_network_that_only_vips_are_in_keeps_its_route_while_one_is_left(bench: Bench) -> None:
    first, second = vip6("2001:db8:8::10"), vip6("2001:db8:8::11")
    for address in (first, second):
        bench.kernel.add_address(address, 2)
    for held in ((first, second), (second,)):
        renewed_until_ns = bench.now_ns() + 4 * SECOND
        while bench.now_ns() < renewed_until_ns:
            assert bench.kernel.renew_addresses(held, 2) == ()
            (route,) = routes_to("2001:db8:8::/64")
            assert route["expires"] >= 0, "what has run out is listed until it is swept up"
            bench.wait()
        bench.kernel.remove_address(first)


# ---- how it is announced


@contextmanager
def neighbour() -> Iterator[tuple[str, ...]]:
    """A machine at the other end of `lan2`; yields the words that run `ip` there. Its interface is far2."""
    with subprocess.Popen(["unshare", "-n", "sh", "-c", "echo ready; exec sleep 600"], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == b"ready\n"
            there = ("nsenter", "-t", str(other.pid), "-n", "ip")
            run("ip", "link", "add", "lan2", "type", "veth", "peer", "far2", "netns", str(other.pid))
            run("ip", "link", "set", "lan2", "up")
            run(*there, "link", "set", "far2", "up")
            run(*there, "addr", "add", "2001:db8::50/64", "dev", "far2", "nodad")
            yield there
        finally:
            other.kill()


@contextmanager
def advertisements(interface: str) -> Iterator[Iterator[bytes]]:
    """Frames with a neighbour advertisement that arrive at `interface`; TimeoutError when none does in 10 s."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x86DD)) as sniffer:
        sniffer.bind((interface, 0x86DD))
        sniffer.settimeout(10)

        def heard() -> Iterator[bytes]:
            while True:
                frame = sniffer.recv(2048)
                if frame[20] == socket.IPPROTO_ICMPV6 and frame[54] == 136:
                    yield frame

        yield heard()


def a_neighbour_hears_the_announcement(bench: Bench) -> None:
    mac, ip = bytes.fromhex(mac_of("lan0").replace(":", "")), socket.inet_pton(socket.AF_INET6, "2001:db8::10")
    bench.kernel.add_address(vip6(), 60)
    for forwarding, router in (("0", b"\x00"), ("1", b"\x80")):
        (SYSCTL / "lan0/forwarding").write_text(f"{forwarding}\n")
        with advertisements("far0") as heard:
            bench.kernel.announce_address(vip6())
            frame = next(heard)
        assert frame[:14] == bytes.fromhex("333300000001") + mac + b"\x86\xdd"
        assert frame[14:22] == b"\x60\0\0\0" + b"\0\x20" + b"\x3a\xff", "32 bytes of ICMPv6, hop limit 255"
        assert frame[22:54] == ip + socket.inet_pton(socket.AF_INET6, "ff02::1")
        assert frame[54:56] == b"\x88\0" and frame[58:62] == bytes([0x20 | router[0], 0, 0, 0]), "override, unsolicited"
        assert frame[62:] == ip + b"\x02\x01" + mac, "target, and its link-layer address"
    (SYSCTL / "lan0/forwarding").write_text("0\n")


def an_announcement_replaces_a_stale_neighbour_entry(bench: Bench) -> None:
    """What a takeover needs; and the neighbour's kernel checks the check sum."""
    with neighbour() as there:
        stale = ("lladdr", "02:00:00:00:00:99", "nud", "stale", "dev", "far2")
        run(*there, "-6", "neigh", "replace", "2001:db8::10", *stale)

        def entry() -> str:
            return str(json.loads(run(*there, "-6", "-j", "neigh", "show", "2001:db8::10", "dev", "far2"))[0]["lladdr"])

        assert entry() == "02:00:00:00:00:99"
        bench.kernel.add_address(vip6(interface="lan2"), 60)
        bench.kernel.announce_address(vip6(interface="lan2"))
        bench.eventually(lambda: entry() == mac_of("lan2"), "the neighbour learns the new address")


def an_address_of_another_resource_is_announced_where_it_is_asked(bench: Bench) -> None:
    """`SendArp`: the address is on lan0, the segment behind lan1."""
    bench.kernel.add_address(vip6(), 60)
    with advertisements("far1") as heard:
        bench.kernel.announce_address(vip6(prefix=128, interface="lan1"))
        frame = next(heard)
    assert frame[6:12] == bytes.fromhex(mac_of("lan1").replace(":", ""))
    assert frame[62:78] == socket.inet_pton(socket.AF_INET6, "2001:db8::10")


def nothing_is_announced_without_arp(bench: Bench) -> None:
    with advertisements("far1") as heard:
        run("ip", "link", "set", "lan1", "arp", "off")
        bench.kernel.announce_address(vip6(interface="lan1"))
        run("ip", "link", "set", "lan1", "arp", "on")
        bench.kernel.announce_address(vip6("2001:db8::99", interface="lan1"))
        assert next(heard)[62:78] == socket.inet_pton(socket.AF_INET6, "2001:db8::99")
    bench.kernel.announce_address(vip6("::1", 128, "lo"))


WITNESS_CASES: tuple[Case, ...] = (
    one_that_somebody_left_with_another_prefix_length_is_replaced,
    a_copy_on_lo_is_left_alone,
    without_prefix_the_network_that_holds_it_decides,
    without_a_network_the_route_decides,
    without_prefix_and_network_it_is_refused_with_what_to_write,
    an_interface_without_ipv6_is_named,
    it_is_usable_at_once,
    a_former_owner_that_still_has_it_does_not_matter,
    connections_of_this_machine_do_not_begin_at_it,
    the_route_of_the_network_outlives_the_lease,
    a_network_that_only_vips_are_in_keeps_its_route_while_one_is_left,
    a_neighbour_hears_the_announcement,
    an_announcement_replaces_a_stale_neighbour_entry,
    an_address_of_another_resource_is_announced_where_it_is_asked,
    nothing_is_announced_without_arp,
)


def begin_anew() -> None:
    """Only this machine's own addresses, and no route but theirs."""
    for interface, own in (("lan0", f"{OWN}/64"), ("lan1", f"{WIDE}/48")):
        (SYSCTL / interface / "disable_ipv6").write_text("1\n")  # which takes all addresses and routes away
        (SYSCTL / interface / "disable_ipv6").write_text("0\n")
        run("ip", "addr", "replace", own, "dev", interface, "nodad")
    run("ip", "-6", "addr", "flush", "dev", "lo", "scope", "global")


def main() -> None:
    (SYSCTL / "default/accept_dad").write_text("0\n")  # the link-local addresses need not be waited for
    lay_cables()
    kernel = linux.LinuxKernel()
    kernel.prepare(ipvs=False)
    bench = Bench(kernel, lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME), lambda: time.sleep(0.02))
    for case in (*SHARED_CASES, *WITNESS_CASES):
        begin_anew()
        report(case.__name__, lambda case=case: case(bench))
    kernel.close()


if __name__ == "__main__":
    main()
