"""Promises of `LinuxKernel` beyond the contract, each seen by somebody else: ip, ipvsadm, a packet sniffer.

Run by `contract_guest` as a program, in a namespace or kernel of its own.
"""

from __future__ import annotations

import errno
import json
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

from msgspec.structs import replace

from hafsm.core.ipvs import DestinationEntry, ServiceEntry, TableEntry, Verb, difference
from hafsm.core.settings import SECOND, Forwarding
from hafsm.kernel import linux
from hafsm.kernel.linux import LinuxKernel
from tests.kernel.contract_guest import Bench, Case, do, error_of, real, run, service, vip


def shown_by_ip(ip: str, interface: str = "lan0") -> dict[str, object] | None:
    listed = json.loads(run("ip", "-j", "addr", "show", "dev", interface))[0]["addr_info"]
    return next((entry for entry in listed if entry["local"] == ip), None)


def ip_shows_label_broadcast_and_lifetime(bench: Bench) -> None:
    bench.kernel.add_address(vip(label="lan0:vip"), 60)
    entry = shown_by_ip("192.0.2.10")
    assert entry is not None
    assert (entry["label"], entry["broadcast"], entry["prefixlen"]) == ("lan0:vip", "192.0.2.255", 24)
    assert 55 <= entry["valid_life_time"] <= 60 and 55 <= entry["preferred_life_time"] <= 60
    bench.kernel.add_address(vip("192.0.2.11", 32), 0)
    entry = shown_by_ip("192.0.2.11")
    assert entry is not None
    assert "broadcast" not in entry and entry["label"] == "lan0"
    assert entry["valid_life_time"] == linux.FOREVER_S
    bench.kernel.add_address(vip("192.0.2.12", broadcast="192.0.2.127"), 60)
    entry = shown_by_ip("192.0.2.12")
    assert entry is not None and entry["broadcast"] == "192.0.2.127"


HOLD = """
import sys, time
from hafsm.kernel.linux import LinuxKernel
from hafsm.core.settings import Address
kernel = LinuxKernel()
address = Address(ip="192.0.2.10", prefix=24, interface="lan0")
kernel.add_address(address, 2)
print("held", flush=True)
while True:
    kernel.renew_addresses((address,), 2)
    time.sleep(0.2)
"""


def _outlives(bench: Bench, end: signal.Signals) -> float:
    """Seconds for which the VIP of a process stays after `end`; the process renewed it all the while before."""
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None and holder.stdout.readline() == "held\n"
            renewed_until_ns = bench.now_ns() + 3 * SECOND
            while bench.now_ns() < renewed_until_ns:
                assert shown_by_ip("192.0.2.10") is not None
                bench.wait()
            holder.send_signal(end)
            ended_ns = bench.now_ns()
            bench.eventually(lambda: shown_by_ip("192.0.2.10") is None, "the VIP goes")
            return (bench.now_ns() - ended_ns) / SECOND
        finally:
            holder.kill()


def a_killed_owner_loses_its_vip(bench: Bench) -> None:
    assert _outlives(bench, signal.SIGKILL) < 3.5


def a_stopped_owner_loses_its_vip(bench: Bench) -> None:
    assert _outlives(bench, signal.SIGSTOP) < 3.5


def a_renewal_that_comes_too_late_gives_the_address_back(bench: Bench) -> None:
    """Stopped between looking and renewing, for longer than the lease: the kernel would create the address anew."""
    bench.kernel.add_address(vip(), 60)
    with mock.patch.object(linux, "_now_ns", side_effect=[0, 61 * SECOND]):
        assert bench.kernel.renew_addresses((vip(),), 60) == (vip(),)
    assert shown_by_ip("192.0.2.10") is None


def an_address_that_cannot_be_renewed_does_not_keep_the_others_from_it(bench: Bench) -> None:
    bad, good = vip(), vip("192.0.2.11")
    for address in (bad, good):
        bench.kernel.add_address(address, 60)
    error = error_of(lambda: bench.kernel.renew_addresses((vip(label="a-label-of-16-by"), good), 600))
    assert error.errno == errno.ERANGE and "192.0.2.10" in error.operation
    entry = shown_by_ip("192.0.2.11")
    assert entry is not None and entry["valid_life_time"] > 60


def promotion_is_on_before_the_first_address(bench: Bench) -> None:
    setting = Path("/proc/sys/net/ipv4/conf/lan0/promote_secondaries")
    if setting.read_text() == "1\n":
        setting.write_text("0\n")
    bench.kernel.add_address(vip(), 60)
    assert setting.read_text() == "1\n"


def a_neighbour_hears_both_forms_of_the_announcement(bench: Bench) -> None:
    bench.kernel.add_address(vip(), 60)
    hardware = json.loads(run("ip", "-j", "link", "show", "dev", "lan0"))[0]["address"]
    mac, ip = bytes.fromhex(hardware.replace(":", "")), socket.inet_aton("192.0.2.10")
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806)) as sniffer:
        sniffer.bind(("far0", 0x0806))
        sniffer.settimeout(10)
        bench.kernel.announce_address(vip())
        request, reply = sniffer.recv(2048), sniffer.recv(2048)
    for heard, operation, target in ((request, b"\0\1", bytes(6)), (reply, b"\0\2", mac)):
        assert len(heard) >= 60
        assert heard[:14] == b"\xff" * 6 + mac + b"\x08\x06"
        assert heard[14:22] == b"\0\1\x08\0\x06\x04" + operation
        assert heard[22:42] == mac + ip + target + ip


def an_announcement_replaces_a_stale_neighbour_entry(bench: Bench) -> None:
    """What a takeover needs: the neighbour's kernel sends to the new owner from now on."""
    with subprocess.Popen(["unshare", "-n", "sh", "-c", "echo ready; exec sleep 600"], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == b"ready\n"
            there = ("nsenter", "-t", str(other.pid), "-n", "ip")
            run("ip", "link", "add", "lan2", "type", "veth", "peer", "far2", "netns", str(other.pid))
            run("ip", "link", "set", "lan2", "up")
            run(*there, "link", "set", "far2", "up")
            run(*there, "addr", "add", "192.0.2.50/24", "dev", "far2")
            stale = ("lladdr", "02:00:00:00:00:99", "nud", "stale", "dev", "far2")
            run(*there, "neigh", "replace", "192.0.2.10", *stale)
            hardware = json.loads(run("ip", "-j", "link", "show", "dev", "lan2"))[0]["address"]

            def entry() -> str:
                return json.loads(run(*there, "-j", "neigh", "show", "192.0.2.10", "dev", "far2"))[0]["lladdr"]

            assert entry() == "02:00:00:00:00:99"
            address = vip(interface="lan2")
            bench.kernel.add_address(address, 60)
            bench.kernel.announce_address(address)
            bench.eventually(lambda: entry() == hardware, "the neighbour learns the new address")
        finally:
            other.kill()


def nothing_is_announced_without_arp(bench: Bench) -> None:
    address = vip(interface="lan1")
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806)) as sniffer:
        sniffer.bind(("far1", 0x0806))
        sniffer.settimeout(10)
        run("ip", "link", "set", "lan1", "arp", "off")
        bench.kernel.announce_address(address)
        run("ip", "link", "set", "lan1", "arp", "on")
        bench.kernel.announce_address(vip("192.0.2.99", interface="lan1"))
        assert sniffer.recv(2048)[28:32] == socket.inet_aton("192.0.2.99")
    bench.kernel.announce_address(vip("127.0.0.1", 8, "lo"))


def a_refusal_of_the_kernel_names_what_was_asked(bench: Bench) -> None:
    error = error_of(lambda: bench.kernel.add_address(vip("203.0.113.1", 24, ""), 60))
    assert error.errno == errno.ENETUNREACH and "203.0.113.1/24" in error.operation
    run("ip", "link", "set", "lan1", "down")
    try:
        error = error_of(lambda: bench.kernel.announce_address(vip(interface="lan1")))
        assert error.errno == errno.ENETDOWN
    finally:
        run("ip", "link", "set", "lan1", "up")


def one_worker_thread_may_do_everything(bench: Bench) -> None:
    """The daemon's way: made, used and closed in an executor's thread while the main thread does something else."""
    with ThreadPoolExecutor(1) as worker:
        kernel = worker.submit(LinuxKernel).result()
        worker.submit(kernel.add_address, vip(), 60).result()
        assert worker.submit(kernel.held_addresses, (vip(),)).result() == (vip(),)
        worker.submit(kernel.close).result()
    assert shown_by_ip("192.0.2.10") is not None


PREPARE = """
from hafsm.errors import KernelError
from hafsm.kernel.linux import LinuxKernel
kernel = LinuxKernel()
try:
    kernel.prepare(ipvs=False)
except KernelError as error:
    print(error.errno, error)
kernel.close()
"""


def a_missing_capability_is_named(bench: Bench) -> None:
    for capability, named in (("net_admin", "CAP_NET_ADMIN"), ("net_raw", "CAP_NET_RAW")):
        said = run(
            "setpriv", f"--bounding-set=-{capability}", f"--inh-caps=-{capability}", sys.executable, "-c", PREPARE
        )
        assert said.startswith(f"{errno.EPERM} ") and named in said


def saved() -> set[str]:
    return set(run("ipvsadm", "-Sn").splitlines())


def ipvsadm_lists_what_was_applied(bench: Bench) -> None:
    bench.fill(
        TableEntry(
            service=service(scheduler="wlc", persistent_s=60, netmask="255.255.255.0"),
            destinations=(
                real(1, weight=0),
                real(2, forwarding=Forwarding.IPIP, weight=7, upper_threshold=10, lower_threshold=5),
                DestinationEntry(address="127.0.0.1", port=80, forwarding=Forwarding.GATE, weight=1),
            ),
        ),
        TableEntry(service=ServiceEntry(protocol="udp", address="192.0.2.1", port=53, scheduler="rr")),
        TableEntry(
            service=ServiceEntry(protocol="fwm", address="", port=0, mark=7),
            destinations=(real(1, port=0, forwarding=Forwarding.GATE),),
        ),
        TableEntry(
            service=ServiceEntry(protocol="tcp", address="2001:db8::1", port=80, persistent_s=9, netmask="64"),
            destinations=(real(1, address="2001:db8::2"),),
        ),
    )
    expected = {
        "-A -t 192.0.2.1:80 -s wlc -p 60 -M 255.255.255.0",
        "-a -t 192.0.2.1:80 -r 10.77.0.1:80 -m -w 0",
        "-a -t 192.0.2.1:80 -r 10.77.0.2:80 -i -w 7 --tun-type ipip",
        "-a -t 192.0.2.1:80 -r 127.0.0.1:80 -g -w 1",
        "-A -u 192.0.2.1:53 -s rr",
        "-A -f 7 -s wrr",
        "-a -f 7 -r 10.77.0.1:0 -g -w 1",
        "-A -t [2001:db8::1]:80 -s wrr -p 9 -M 64",
        "-a -t [2001:db8::1]:80 -r [2001:db8::2]:80 -m -w 1",
    }
    assert saved() == expected, f"{saved() ^ expected}"
    thresholds = {line.split()[1]: line.split()[2:4] for line in run("ipvsadm", "-Ln", "--thresholds").splitlines()[3:]}
    assert thresholds["10.77.0.2:80"] == ["10", "5"] and thresholds["10.77.0.1:80"] == ["0", "0"]


def what_others_made_is_read_whatever_it_is(bench: Bench) -> None:
    for line in (
        "-A --sctp-service 192.0.2.1:80 -s rr",
        "-A -u 192.0.2.1:53 -o -s sh -b sh-port",
        "-A -f 9 -6 -s wrr -p 60 -M 64",
        "-A -t 192.0.2.1:80 -s wrr",
        "-a -t 192.0.2.1:80 -r 10.77.0.1:8080 -m -w 3 -x 10 -y 5",
    ):
        run("ipvsadm", *line.split())
    assert {entry.service.key: entry for entry in bench.kernel.read_table()} == {
        "sctp:192.0.2.1:80": TableEntry(
            service=ServiceEntry(protocol="sctp", address="192.0.2.1", port=80, scheduler="rr")
        ),
        "udp:192.0.2.1:53": TableEntry(
            service=ServiceEntry(
                protocol="udp",
                address="192.0.2.1",
                port=53,
                scheduler="sh",
                scheduler_flags=("sh-port",),
                one_packet=True,
            )
        ),
        "fwm6:9": TableEntry(
            service=ServiceEntry(protocol="fwm", address="::", port=0, mark=9, persistent_s=60, netmask="64")
        ),
        "tcp:192.0.2.1:80": TableEntry(
            service=service(),
            destinations=(real(1, port=8080, weight=3, upper_threshold=10, lower_threshold=5),),
        ),
    }
    bench.fill()
    assert saved() == set()


def ipvsadm_lists_flags_one_packet_and_every_protocol(bench: Bench) -> None:
    udp = ServiceEntry(protocol="udp", address="192.0.2.1", port=123, one_packet=True, persistent_s=30)
    bench.fill(
        TableEntry(service=replace(udp, scheduler="sh", scheduler_flags=("sh-fallback", "sh-port"))),
        TableEntry(service=service(81, scheduler="mh", scheduler_flags=("mh-port",))),
        TableEntry(service=service(82, scheduler="wrr", scheduler_flags=("flag-1", "flag-3"))),
        TableEntry(service=ServiceEntry(protocol="sctp", address="192.0.2.1", port=80)),
        TableEntry(
            service=ServiceEntry(protocol="fwm", address="::", port=0, mark=7, persistent_s=60, netmask="64"),
            destinations=(
                real(1, address="2001:db8::2", port=0, forwarding=Forwarding.GATE),
                real(1, port=0, forwarding=Forwarding.IPIP),
            ),
        ),
    )
    expected = {
        "-A -u 192.0.2.1:123 -s sh -p 30 -o -b sh-fallback,sh-port",
        "-A -t 192.0.2.1:81 -s mh -b mh-port",
        "-A -t 192.0.2.1:82 -s wrr -b flag-1,flag-3",
        "-A --sctp-service 192.0.2.1:80 -s wrr",
        "-A -f 7 -6 -s wrr -p 60 -M 64",
        "-a -f 7 -6 -r [2001:db8::2]:0 -g -w 1",
        "-a -f 7 -6 -r 10.77.0.1:0 -i -w 1 --tun-type ipip",
    }
    assert saved() == expected, f"{saved() ^ expected}"


def editing_sets_the_flags_that_were_asked_for(bench: Bench) -> None:
    run("ipvsadm", "-A", "-u", "192.0.2.1:53", "-o", "-s", "sh", "-b", "sh-port")
    dns = ServiceEntry(protocol="udp", address="192.0.2.1", port=53, scheduler="wrr")
    assert do(bench, Verb.EDIT_SERVICE, dns) == 0
    assert saved() == {"-A -u 192.0.2.1:53 -s wrr"}


def persistence_can_be_taken_back(bench: Bench) -> None:
    bench.fill(TableEntry(service=service(persistent_s=60)))
    bench.fill(TableEntry(service=service()))
    assert saved() == {"-A -t 192.0.2.1:80 -s wrr"}


def a_cleared_table_is_repaired_from_the_difference(bench: Bench) -> None:
    wanted = TableEntry(service=service(), destinations=(real(1), real(2)))
    bench.fill(wanted)
    before = saved()
    run("ipvsadm", "-C")
    assert do(bench, Verb.EDIT_DESTINATION, service(), real(1)) == errno.ESRCH
    bench.fill(wanted)
    assert saved() == before


def connections_are_counted_while_they_live(bench: Bench) -> None:
    """A client, the director and the real server are this machine; ipvsadm counts too."""
    run("ip", "address", "add", "192.0.2.1/32", "dev", "lo")
    web, key = service(), (service().key, "127.0.0.1:80")
    try:
        bench.fill(TableEntry(service=web, destinations=(real(1, address="127.0.0.1", forwarding=Forwarding.GATE),)))
        with socket.create_server(("0.0.0.0", 80)) as listener:
            client = socket.create_connection(("192.0.2.1", 80), timeout=10)
            server, _ = listener.accept()
            with client, server:
                assert bench.kernel.read_connections((web,)) == {key: (1, 0)}
                assert " 1          0" in run("ipvsadm", "-Ln")
                quiet = real(1, address="127.0.0.1", forwarding=Forwarding.GATE, weight=0)
                assert do(bench, Verb.EDIT_DESTINATION, web, quiet) == 0
                client.sendall(b"still")
                assert server.recv(5) == b"still", "weight 0 leaves it alone"
                assert bench.kernel.read_connections((web,)) == {key: (1, 0)}
        assert bench.kernel.read_connections((web,))[key].active == 0
    finally:
        run("ip", "address", "del", "192.0.2.1/32", "dev", "lo")


def removed_real_servers_lose_their_connections(bench: Bench) -> None:
    """`prepare` set it: otherwise a client that re-uses its port is sent to the removed server for minutes."""
    assert Path("/proc/sys/net/ipv4/vs/expire_nodest_conn").read_text() == "1\n"


def a_director_that_does_not_forward_is_told_of_masq(bench: Bench) -> None:
    """Once, and not for a real server on the director itself."""
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "0\n"
    entry = TableEntry(service=service(), destinations=(real(1), real(2)))
    local = TableEntry(service=service(81), destinations=(real(1, address="127.0.0.1"),))
    operations = [
        difference((local,), ()),
        difference((replace(entry, destinations=(real(1, forwarding=Forwarding.GATE),)),), ()),
        difference((entry,), ()),
        difference((entry,), ()),
    ]
    kernel = LinuxKernel()
    said: list[int] = []
    with mock.patch.object(linux.log, "warning") as warning:
        for batch in operations:
            kernel.apply_operations(batch)
            said.append(warning.call_count)
    kernel.close()
    assert said == [0, 0, 1, 1]
    assert "set net.%s=1" in warning.call_args.args[0] and warning.call_args.args[2] == "ipv4.ip_forward"


ADDRESS_CASES: tuple[Case, ...] = (
    ip_shows_label_broadcast_and_lifetime,
    a_killed_owner_loses_its_vip,
    a_stopped_owner_loses_its_vip,
    a_renewal_that_comes_too_late_gives_the_address_back,
    an_address_that_cannot_be_renewed_does_not_keep_the_others_from_it,
    promotion_is_on_before_the_first_address,
    a_neighbour_hears_both_forms_of_the_announcement,
    an_announcement_replaces_a_stale_neighbour_entry,
    nothing_is_announced_without_arp,
    a_refusal_of_the_kernel_names_what_was_asked,
    one_worker_thread_may_do_everything,
    a_missing_capability_is_named,
)

IPVS_CASES: tuple[Case, ...] = (
    ipvsadm_lists_what_was_applied,
    connections_are_counted_while_they_live,
    what_others_made_is_read_whatever_it_is,
    ipvsadm_lists_flags_one_packet_and_every_protocol,
    editing_sets_the_flags_that_were_asked_for,
    persistence_can_be_taken_back,
    a_cleared_table_is_repaired_from_the_difference,
    removed_real_servers_lose_their_connections,
    a_director_that_does_not_forward_is_told_of_masq,
)
