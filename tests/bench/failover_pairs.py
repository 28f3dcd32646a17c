"""The pairs that `failover_bench` measures: two directors, what runs on them, a client, a witness of who has the VIP.

- `HafsmKernels`, `KeepalivedKernels`: user-mode-linux kernels with IPVS, direct routing to two real servers; the
  cluster of tests/kernel. Frozen by stopping the kernel between two instructions.
- `HafsmNamespaces`, `HeartbeatNamespaces`: namespaces of this machine's kernel, without IPVS; the directors themselves
  answer. heartbeat forks a hundred times a hand-over, which in a user-mode kernel would measure the forks. Frozen by
  stopping every process and losing every frame: the kernel below goes on, so leases end during the freeze.

All use the same timers: a sign of life every `period_ms`, death after three of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from typing import Protocol

from tests.interop import lab as interop
from tests.kernel import lab as kernel
from tests.kernel.owners import Owners
from tests.kernel.site import descendant
from tests.kernel.uml import GUEST, Process

PRIMARY, BACKUP = 0, 1
STOP_S = 120

KEEPALIVED = """
global_defs {{
    router_id {name}
}}
vrrp_instance service {{
    state BACKUP
    interface eth0
    virtual_router_id 51
    priority {priority}
    advert_int {advert}
    virtual_ipaddress {{
        192.168.2.232/24 dev eth0 label eth0:0
    }}
}}
virtual_server 192.168.2.232 80 {{
    delay_loop 1
    lb_algo rr
    lb_kind DR
    protocol TCP
    real_server 192.168.2.31 80 {{
        TCP_CHECK {{
            connect_timeout 3
        }}
    }}
    real_server 192.168.2.41 80 {{
        TCP_CHECK {{
            connect_timeout 3
        }}
    }}
}}
"""
"""Priorities 254 and 253: the skew, (256 - priority) / 256 of an advert, is next to nothing: death is three adverts."""


def timers(period_ms: int) -> dict[str, str]:
    """heartbeat's words for a sign of life every `period_ms` and death after three."""
    return {
        "keepalive": f"{period_ms}ms",
        "warntime": f"{2 * period_ms}ms",
        "deadtime": f"{3 * period_ms}ms",
        "initdead": "10",
    }


class Pair(Protocol):
    """Director 0 is the configured owner. Everything blocks; who owns the VIP is seen through `owners`."""

    name: str
    client: kernel.Client
    owners: Owners
    vip: str

    def mac(self, director: int) -> str:
        """The hardware address with which it answers; another one after a power cut, perhaps."""

    def start(self, director: int) -> None:
        """Start its software and return at once."""

    def stop(self, director: int) -> None:
        """Ask its software to end and return at once; `ended` waits for it."""

    def ended(self, director: int) -> None: ...
    def power_cut(self, director: int) -> None: ...
    def power_on(self, director: int) -> None: ...
    def freeze(self, director: int) -> None: ...
    def thaw(self, director: int) -> None: ...
    def close(self) -> None: ...


class _Kernels:
    """Two directors that are kernels; `_command` says what runs on them."""

    name = ""
    vip = kernel.VIP

    def __init__(self, period_ms: int) -> None:
        self.lab = kernel.Lab()
        self._running: dict[int, Process] = {}
        try:
            self.lab.boot()
            self.client = self.lab.client
            self.owners = Owners(kernel.NativeHost(self.lab.site, "witness", ["192.168.2.120"]))
            for number, director in enumerate(self.lab.directors):
                self._install(number, director, period_ms)
        except BaseException:
            self.lab.close()
            raise

    def _install(self, number: int, director: kernel.Director, period_ms: int) -> None:
        raise NotImplementedError

    def _start(self, director: kernel.Director) -> Process:
        raise NotImplementedError

    def mac(self, director: int) -> str:
        return self.lab.directors[director].mac

    def start(self, director: int) -> None:
        self._running[director] = self._start(self.lab.directors[director])

    def stop(self, director: int) -> None:
        self.lab.directors[director].run(["kill", "-TERM", str(self._running[director].pid)])

    def ended(self, director: int) -> None:
        self._running[director].wait(STOP_S)

    def power_cut(self, director: int) -> None:
        self.lab.directors[director].power_cut()

    def power_on(self, director: int) -> None:
        self.lab.boot()

    def freeze(self, director: int) -> None:
        self.lab.directors[director].freeze()

    def thaw(self, director: int) -> None:
        self.lab.directors[director].thaw()

    def close(self) -> None:
        self.owners.stop()
        self.lab.close()


class HafsmKernels(_Kernels):
    """The scenario's files, without its second resource httpd, watchdog and ipfail: what keepalived does, too."""

    name = "hafsm"

    def _install(self, number: int, director: kernel.Director, period_ms: int) -> None:
        director.install(
            ha_cf={**timers(period_ms), "watchdog": None, "ping": None, "respawn": None, "apiauth": None},
            files={"haresources": f"server40.example.com IPaddr::{self.vip}/24/eth0:0 ldirectord\n"},
        )

    def _start(self, director: kernel.Director) -> Process:
        return director.start_hafsm()


class KeepalivedKernels(_Kernels):
    """Debian's keepalived."""

    name = "keepalived"

    def _install(self, number: int, director: kernel.Director, period_ms: int) -> None:
        text = KEEPALIVED.format(name=director.name, priority=254 - number, advert=period_ms / 1000)
        director.write("/etc/keepalived/keepalived.conf", text)

    def _start(self, director: kernel.Director) -> Process:
        director.run("modprobe ip_vs && sysctl -q -w net.ipv4.vs.expire_nodest_conn=1")
        return director.start(["keepalived", "-n", "-l", "-D"], log="/var/log/keepalived.log")


class _Namespaces:
    """Two directors that are namespaces, each with a web server of its own behind the VIP."""

    name = ""
    vip = interop.VIP
    kind: type[interop.Hafsm] | type[interop.Heartbeat]

    def __init__(self, period_ms: int) -> None:
        self.ground = interop.Ground()
        try:
            self.ground.sh(
                "ip link add switch type bridge; ip link set switch up; ip link property add dev switch altname lan"
            )
            self.client = kernel.Client(self.ground, "client", [f"192.0.2.{number}" for number in range(101, 109)])
            self.owners = Owners(kernel.NativeHost(self.ground, "witness", ["192.0.2.120"]), self.vip)
            self.directors = [self.kind(self.ground, f"director-{'ab'[number]}", number + 1) for number in (0, 1)]
            self._stopping: dict[int, subprocess.Popen[bytes]] = {}
            lines = [f"{word} {value}" for word, value in timers(period_ms).items()]
            lines += ["bcast eth0", "auto_failback on", "use_logd off", "logfile /var/log/ha-log"]
            lines += [f"node {director.name}" for director in self.directors]
            for number, director in enumerate(self.directors):
                director.install(
                    {
                        "ha.cf": "\n".join(lines) + "\n" + director.more_ha_cf,
                        "haresources": f"{self.directors[PRIMARY].name} {interop.RESOURCE}\n",
                        "authkeys": "auth 1\n1 sha1 one-key-for-both\n",
                    }
                )
                self.power_on(number)
                self._serve(director.name)
        except BaseException:
            self.ground.close()
            raise

    def _serve(self, name: str) -> None:
        self.ground.popen(
            [sys.executable, "-I", "-S", str(GUEST / "httpd.py"), "80", name],
            netns=name,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def mac(self, director: int) -> str:
        link = self.ground.run(["ip", "-json", "link", "show", "eth0"], netns=self.directors[director].name)
        return str(json.loads(link.stdout)[0]["address"])

    def start(self, director: int) -> None:
        self.directors[director].start()

    def power_cut(self, director: int) -> None:
        self.directors[director].power_cut()

    def power_on(self, director: int) -> None:
        self.directors[director].power_on()

    def freeze(self, director: int) -> None:
        self.directors[director].plug(cable=False)
        self.directors[director].run(["kill", "-STOP", "--", "-1"])

    def thaw(self, director: int) -> None:
        self.directors[director].plug(cable=True)
        self.directors[director].run(["kill", "-CONT", "--", "-1"])

    def close(self) -> None:
        self.owners.stop()
        self.ground.close()


class HafsmNamespaces(_Namespaces):
    """The daemon of this checkout."""

    name = "hafsm, namespaces"
    kind = interop.Hafsm

    def _process(self, director: int) -> subprocess.Popen[bytes]:
        side = self.directors[director]
        assert isinstance(side, interop.Hafsm)
        assert side.process is not None
        return side.process

    def stop(self, director: int) -> None:
        pid = descendant(self._process(director), 1)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)

    def ended(self, director: int) -> None:
        self._process(director).wait(STOP_S)

    def thaw(self, director: int) -> None:
        super().thaw(director)
        self._go_on(director)

    def _go_on(self, director: int) -> None:
        """nsenter stopped with its child, and must see its end."""
        self._process(director).send_signal(signal.SIGCONT)

    def close(self) -> None:
        for director in (PRIMARY, BACKUP):
            self._go_on(director)
        super().close()


class HeartbeatNamespaces(_Namespaces):
    """Debian's heartbeat 3."""

    name = "heartbeat, namespaces"
    kind = interop.Heartbeat

    def stop(self, director: int) -> None:
        self._stopping[director] = self.directors[director].popen([str(interop.HEARTBEAT), "-k"])

    def ended(self, director: int) -> None:
        self._stopping[director].wait(STOP_S)


PAIRS: tuple[type[HafsmKernels | KeepalivedKernels | HafsmNamespaces | HeartbeatNamespaces], ...] = (
    HafsmKernels,
    KeepalivedKernels,
    HafsmNamespaces,
    HeartbeatNamespaces,
)
