"""The cluster that hafsm was asked for, on one Ethernet: two directors that are kernels, and cheap hosts round
them.

                    bridge `lan`, 192.168.2.0/24
    server40 .40 ─┬─ server19 .19        directors: user-mode-linux kernels with IPVS of their own
    server31 .31 ─┼─ server41 .41        real servers: VIP on lo, silent for ARP, a web page with their name
    gateway .251 ─┴─ client .101-.108    answers ping; asks the VIP

Real servers, gateway and client are network namespaces of the host's kernel: they run at native speed, and what
the client measures is not blurred by an emulated clock.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.kernel.site import LabError, Result, Site, descendant, wait_for
from tests.kernel.uml import GUEST, Node, Process

VIP = "192.168.2.232"
GATEWAY = "192.168.2.251"
ROOT = Path(__file__).resolve().parents[2]
"""The checkout, which directors run from in place."""
SCENARIO = GUEST / "scenario"


class AskFailed(LabError):
    """The client got no page; the message is the client's error, "ConnectionRefusedError: ..." for one."""


class Cable:
    """The connection of one host to the bridge. A pulled cable loses every frame in both directions."""

    def __init__(self, site: Site, port: str) -> None:
        self._site, self._port = site, port
        self.plug()

    def plug(self) -> None:
        """Connect; harmless when connected."""
        self._site.sh(f"ip link set {self._port} master lan up")

    def unplug(self) -> None:
        """Disconnect. The host's interface keeps its carrier, as behind a switch that lost its uplink."""
        self._site.sh(f"ip link set {self._port} nomaster")


class NativeHost:
    """A host that is a network namespace of this machine's kernel."""

    def __init__(self, site: Site, name: str, addresses: Sequence[str]) -> None:
        self.site, self.name, self.addresses = site, name, tuple(addresses)
        self._processes: list[NativeProcess] = []
        site.sh(f"ip netns add {name}; ip link add {name} type veth peer name eth0 netns {name}")
        lines = ["ip link set lo up", *(f"ip addr add {address}/24 brd + dev eth0" for address in addresses)]
        self.sh("; ".join([*lines, "ip link set eth0 up"]))
        self.cable = Cable(site, name)

    def run(self, command: str | Sequence[str], *, timeout: float = 30, check: bool = True) -> Result:
        """As `Node.run`."""
        argv = ["sh", "-c", command] if isinstance(command, str) else command
        return self.site.run(argv, netns=self.name, timeout=timeout, check=check)

    def sh(self, script: str) -> str:
        """Shell lines, stopping at the first that fails; returns what they printed."""
        return self.site.sh(script, netns=self.name)

    def start(self, argv: Sequence[str]) -> NativeProcess:
        """Start a command in the background; it ends with the laboratory at the latest."""
        process = NativeProcess(self, argv, len(self._processes))
        self._processes.append(process)
        return process

    def mac(self) -> str:
        """The hardware address of eth0."""
        return str(json.loads(self.sh("ip -json link show eth0"))[0]["address"])


class NativeProcess:
    """A command that runs in the background of a native host."""

    def __init__(self, host: NativeHost, argv: Sequence[str], number: int) -> None:
        self.log = host.site.inside / f"{host.name}-{number}.log"
        with self.log.open("wb") as log:
            self._popen = host.site.popen(
                argv, netns=host.name, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        self.pid = descendant(self._popen, 1)

    def poll(self) -> int | None:
        """Its exit status, None while it runs."""
        return self._popen.poll()

    def signal(self, number: int) -> None:
        """Send it a signal; it being gone already is fine."""
        if self._popen.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)
        if number != signal.SIGSTOP:
            self._popen.send_signal(signal.SIGCONT)  # nsenter stops with its child and must go on to see its end

    def stop(self) -> None:
        """Kill it and wait for its end."""
        self.signal(signal.SIGKILL)
        self._popen.wait(30)

    def output(self) -> str:
        """What it printed so far, both streams."""
        return self.log.read_text(errors="replace")


class RealServer(NativeHost):
    """A real server behind direct routing: it accepts packets for the VIP and does not answer ARP for it."""

    def __init__(self, site: Site, name: str, address: str) -> None:
        super().__init__(site, name, [address])
        self.address = address
        self.page = f"{name}.example.com"
        self._httpd: NativeProcess | None = None
        self.sh("sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2")
        self.sh(f"ip addr add {VIP}/32 dev lo")
        self.start_httpd()

    def start_httpd(self) -> None:
        """Serve the page; returns when it can be asked. Harmless when it runs; wakes one that hangs."""
        if self._httpd is not None:
            self._httpd.signal(signal.SIGCONT)
            return
        httpd = self.start([sys.executable, "-I", "-S", str(GUEST / "httpd.py"), "80", self.page])
        wait_for(lambda: httpd.poll() is not None or "listening" in httpd.output(), 20, f"httpd on {self.name}")
        if httpd.poll() is not None:
            raise LabError(f"httpd on {self.name} ended: {httpd.output()}")
        self._httpd = httpd

    def stop_httpd(self) -> None:
        """Connections are refused from now on."""
        if self._httpd is not None:
            self._httpd.stop()
            self._httpd = None

    def hang_httpd(self) -> None:
        """Connections are accepted by the kernel from now on and never answered; `start_httpd` wakes it."""
        assert self._httpd is not None
        self._httpd.signal(signal.SIGSTOP)


@dataclass(frozen=True)
class Asked:
    """One question of the client and what came of it."""

    at: float
    """When it was asked; seconds of this machine's `time.monotonic`."""
    took: float
    """Seconds until the answer or the error."""
    answer: str | None
    error: str | None


class Watch:
    """A client that asks all the time. A context manager that stops at its end."""

    def __init__(self, process: NativeProcess) -> None:
        self._process = process

    def asked(self) -> list[Asked]:
        """All questions that have ended, in the order asked."""
        lines = self._process.output().split("\n")[:-1]
        return sorted((Asked(*json.loads(line)) for line in lines), key=lambda asked: asked.at)

    def since(self, at: float) -> list[Asked]:
        """Those asked at or after `at` (`time.monotonic`)."""
        return [asked for asked in self.asked() if asked.at >= at]

    def longest_outage(self) -> float:
        """Seconds between two answered questions with only failures between them, the longest such; 0 without
        failures."""
        longest, last_good, failed = 0.0, None, False
        for asked in self.asked():
            if asked.answer is None:
                failed = True
                continue
            if failed and last_good is not None:
                longest = max(longest, asked.at - last_good)
            last_good, failed = asked.at, False
        return longest

    def stop(self) -> None:
        """Stop asking; what was asked stays readable."""
        self._process.stop()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Client(NativeHost):
    """Asks the service as anybody on the network would."""

    def _asker(self, vip: str, port: int, timeout: float, interval: float) -> list[str]:
        words = [vip, str(port), str(timeout), str(interval), *self.addresses]
        return [sys.executable, "-I", "-S", str(GUEST / "asker.py"), *words]

    def ask(self, vip: str = VIP, port: int = 80, timeout: float = 5) -> str:
        """Ask once; returns the page. Raises `AskFailed`."""
        result = self.run(self._asker(vip, port, timeout, 0), timeout=timeout + 30)
        asked = Asked(*json.loads(result.stdout))
        if asked.answer is None:
            raise AskFailed(f"http://{vip}:{port}/ after {asked.took:.2f} s: {asked.error}")
        return asked.answer

    def watch(self, vip: str = VIP, port: int = 80, *, interval: float = 0.05, timeout: float = 1.0) -> Watch:
        """Ask every `interval` seconds from rotating addresses and ports, until stopped."""
        return Watch(self.start(self._asker(vip, port, timeout, interval)))

    def arp_entry(self, ip: str = VIP) -> str | None:
        """The hardware address that this client believes `ip` has; None without a belief."""
        entries = json.loads(self.sh(f"ip -json neigh show to {ip} dev eth0") or "[]")
        return next((entry["lladdr"] for entry in entries if "lladdr" in entry), None)

    def forget_arp(self) -> None:
        """Drop all beliefs."""
        self.sh("ip neigh flush dev eth0")


class Director(Node):
    """A director: a kernel of its own with IPVS, on which hafsm runs from this checkout in place."""

    def __init__(self, site: Site, name: str, address: str) -> None:
        number = int(address.rsplit(".", 1)[1])
        mac, self.ip = f"02:00:c0:a8:02:{number:02x}", address
        site.sh(f"ip tuntap add {name} mode tap")
        self.cable = Cable(site, name)
        super().__init__(site, name, hostname=f"{name}.example.com", tap=name, mac=mac, address=f"{address}/24")

    def plug(self) -> None:
        """Connect the network cable; harmless when connected."""
        self.cable.plug()

    def unplug(self) -> None:
        """Pull the network cable."""
        self.cable.unplug()

    def install(
        self, *, ha_cf: Mapping[str, str | Sequence[str] | None] | None = None, files: Mapping[str, str] | None = None
    ) -> None:
        """Put the scenario into /etc/ha.d: its four files and the resource script httpd.

        `ha_cf` changes directives (see `vary`); `files` replaces whole files by name. authkeys gets mode 600.
        """
        for source in sorted(SCENARIO.iterdir()):
            text = (files or {}).get(source.name, source.read_text())
            if source.name == "ha.cf":
                text = vary(text, ha_cf or {})
            self.write(f"/etc/ha.d/{source.name}", text, mode=0o600 if source.name == "authkeys" else 0o644)
        self.write("/etc/lab.conf", f"lab_python={Path(sys.executable).resolve()}\nlab_guest={GUEST}\n")
        self.write("/etc/ha.d/resource.d/httpd", (GUEST / "httpd.sh").read_bytes(), mode=0o755)

    def hafsm(self, *args: str, timeout: float = 120, check: bool = True) -> Result:
        """Run a hafsm command to its end. Its imports alone take some four seconds in there."""
        return self.run([*self._hafsm_words(), *args], timeout=timeout, check=check)

    def start_hafsm(self, *args: str) -> Process:
        """Start the daemon on /etc/ha.d; it logs to /var/log/hafsm.log in the node. A watchdog that ha.cf names is
        softdog."""
        if self.run("grep -q ^watchdog /etc/ha.d/ha.cf", check=False).rc == 0:
            self.use_softdog(margin_s=60)
        argv = [*self._hafsm_words(), "run", "--config-dir", "/etc/ha.d", *args]
        return self.start(argv, log="/var/log/hafsm.log")

    def _hafsm_words(self) -> list[str]:
        return ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "hafsm.cli.main"]


def vary(text: str, changes: Mapping[str, str | Sequence[str] | None]) -> str:
    """A configuration of one directive a line, with some changed: {"deadtime": "5", "watchdog": None, "ping":
    ["a", "b"]}.

    The first line of a directive is replaced by one line a value, its other lines go; None removes it; what is
    not there is appended. Commented lines stay as they are.
    """
    lines: list[str] = []
    written: set[str] = set()
    for line in text.splitlines():
        word = (line.split() or [""])[0]
        if word not in changes:
            lines.append(line)
        elif word not in written:
            written.add(word)
            lines += _directive(word, changes[word])
    for word, value in changes.items():
        if word not in written:
            lines += _directive(word, value)
    return "\n".join(lines) + "\n"


def _directive(word: str, value: str | Sequence[str] | None) -> list[str]:
    values = [] if value is None else [value] if isinstance(value, str) else value
    return [f"{word} {each}" for each in values]


class Lab:
    """The whole cluster. `boot` once, `restore` before each test, `close` at the end."""

    def __init__(self) -> None:
        self.site = Site()
        try:
            self.site.sh("ip link add lan type bridge stp_state 0 forward_delay 0; ip link set lan up")
            self.server31 = RealServer(self.site, "server31", "192.168.2.31")
            self.server41 = RealServer(self.site, "server41", "192.168.2.41")
            self.gateway = NativeHost(self.site, "gateway", [GATEWAY])
            self.client = Client(self.site, "client", [f"192.168.2.{number}" for number in range(101, 109)])
            self.server40 = Director(self.site, "server40", "192.168.2.40")
            self.server19 = Director(self.site, "server19", "192.168.2.19")
        except BaseException:
            self.site.close()
            raise
        self.reals = (self.server31, self.server41)
        self.directors = (self.server40, self.server19)

    def boot(self) -> None:
        """Switch on the directors that are off, both at once, and wait until they obey."""
        off = [director for director in self.directors if not director.is_on]
        for director in off:
            director.power_on()
        for director in off:
            director.wait_until_up()

    def restore(self) -> None:
        """Undo what a test did to the machines: power, cables, freezes, httpds, background commands, VIP and
        IPVS table.

        A director on which a background command still runs is restarted. Files in the nodes stay as they are.
        """
        for host in (*self.reals, self.gateway, self.client):
            host.cable.plug()
        for real in self.reals:
            real.start_httpd()
        self.client.forget_arp()
        for director in self.directors:
            director.plug()
            director.thaw()
        for director in self.directors:
            if director.is_on and director.stop_background():
                director.shut_down()
        self.boot()
        for director in self.directors:
            director.run(
                "/etc/ha.d/resource.d/httpd stop; ipvsadm -C;"
                f" ip addr del {VIP}/24 dev eth0; ip addr del {VIP}/32 dev eth0",
                check=False,
            )

    def close(self) -> None:
        """End every process of the laboratory."""
        try:
            for director in self.directors:
                director.close()
        finally:
            self.site.close()
