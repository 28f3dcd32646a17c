"""Power cuts under load, on real kernels, with an onlooker in each: `python -m tests.kernel.power_cuts --cuts 200`.

Two directors, a VIP at home on each, real servers that come and go, a client that asks. At random moments, or a moment
after a VIP or the table has changed, one of them is cut: its kernel is killed, with what its disk had not synced; or
every process of its daemon; or its core alone. It is started again; the other one goes on. Each cut leaves a journal
that must open, verify, replay identically and break no invariant. In the end every change of an address or of the IPVS
table that the onlookers saw must have its cause (`explain`). The last changes are made by hand, so that each campaign
proves that it finds what nobody asked for.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from hafsm.core.settings import MILLISECOND
from journal.folder import segments
from journal.survey import survey
from replay.check import check
from replay.engine import replay
from tests.kernel.explain import HELD, RENEWED, Seen, Told, Verdict, Why, explain
from tests.kernel.lab import ROOT, VIP, Director, Lab
from tests.kernel.site import missing_prerequisite, wait_for
from tests.kernel.uml import GUEST, Process

SECOND_VIP = "192.168.2.233"
SETTLE_S = 120
LOOK_EVERY_S = 0.01
ASK_EVERY_S = 0.1
GAP_S = 9.0
"""Longest time from a director that is started again to the next cut: it needs about five seconds to be heard and two
more to have its group back, so that cuts hit starts, take-overs, failbacks and quiet moments alike."""
OFF_S = (0.0, 0.0, 0.0, 4.0)
"""How long a machine stays without power, before a boot of three seconds; deadtime is three."""
KINDS = {"kernel": 12, "daemon": 6, "core": 2}
"""What is killed, how often in twenty."""
AIMED = 0.5
"""Of the cuts come when something has just changed: what was done before it was on disk is found out then."""
AIM_S = 3.0
"""Longest wait for such a moment."""
SHARE = "/mnt/out"
JOURNAL = "/var/lib/hafsm/journal"
STRANGER = "192.168.2.99"
BY_HAND = {
    f"ip addr add {STRANGER}/32 dev eth0": (f"{STRANGER}/32", HELD),
    f"ipvsadm -a -t {VIP}:80 -r {STRANGER}:80 -g -w 1": (f"{STRANGER}:80 of tcp:{VIP}:80", "Route 1"),
}
"""Commands, and what they change."""
TIMERS = {"keepalive": "200ms", "deadtime": "3", "warntime": "1", "initdead": "10"}
RESOURCES = f"""\
server40.example.com IPaddr::{VIP}/24/eth0:0 ldirectord
server19.example.com IPaddr::{SECOND_VIP}/24/eth0:1 ldirectord
"""
SERVICE = """\
virtual={vip}:80
\treal=192.168.2.31:80 gate
\treal=192.168.2.41:80 gate
\tservice=http
\tscheduler=rr
\tprotocol=tcp
\tchecktype=negotiate
\trequest="index.html"
"""
LDIRECTORD = "checktimeout=1\ncheckinterval=1\nquiescent={quiescent}\n" + "".join(
    SERVICE.format(vip=vip) for vip in (VIP, SECOND_VIP)
)
HAFSM_TOML = '[journal]\nsegment_size = "1MiB"\npatience_ms = {patience_ms}\n'
"""The smallest segments: rotation and packing happen too."""
PATIENCE_MS = 25
"""As hafsm comes."""


class Failed(Exception):
    """What was promised is not so; the message says what, and with which seed."""


class Victim:
    """One director with its daemon and its onlooker."""

    def __init__(self, director: Director, out: Path) -> None:
        self.director = director
        self.out = out
        self.log = out / "hafsm.log"
        self.records: list[Path] = []
        """Of the onlookers, one a boot."""
        self._daemon: Process | None = None
        self._onlooker: Process | None = None
        out.mkdir()
        director.share(out, SHARE)

    @property
    def name(self) -> str:
        return self.director.name

    @property
    def daemon(self) -> Process:
        assert self._daemon is not None
        return self._daemon

    def install(self, quiescent: str, patience_ms: int) -> None:
        changes = TIMERS | {"watchdog": None, "debugfile": None, "logfacility": None, "logfile": f"{SHARE}/hafsm.log"}
        files = {"haresources": RESOURCES, "ldirectord.cf": LDIRECTORD.format(quiescent=quiescent)}
        self.director.install(ha_cf=changes, files=files)
        self.director.write("/etc/hafsm/hafsm.toml", HAFSM_TOML.format(patience_ms=patience_ms))

    def watch(self) -> None:
        """Start the onlooker of this boot, before anything else happens in it."""
        record = self.out / f"seen-{len(self.records):03d}.jsonl"
        words = [sys.executable, "-I", "-S", str(GUEST / "onlooker.py"), f"{SHARE}/{record.name}", str(LOOK_EVERY_S)]
        self._onlooker = self.director.start(words, log="/run/onlooker.log")
        wait_for(lambda: record.exists() and b"\n" in record.read_bytes(), SETTLE_S, f"the onlooker on {self.name}")
        self.records.append(record)

    def examine(self) -> None:
        """Raises Failed if the daemon or the onlooker has ended by itself."""
        for what, process in (("daemon", self._daemon), ("onlooker", self._onlooker)):
            if process is not None and (status := process.poll()) is not None:
                raise Failed(f"the {what} on {self.name} ended by itself, status {status}: {process.output()}")

    def seen(self, records: Sequence[Path]) -> Seen:
        """What the onlookers wrote there."""
        seen = Seen()
        for record in records:
            lines = record.read_text().split("\n")[:-1]  # the last one may be torn
            seen.read(map(json.loads, lines), own=("127.0.0.1/8", f"{self.director.ip}/24"))
        return seen

    def await_change(self, limit_s: float) -> bool:
        """Return as soon as the onlooker has seen a VIP come or go, or another table; False: nothing in that time."""
        end = time.monotonic() + limit_s
        size = known = -1
        while time.monotonic() < end:
            if (now := self.records[-1].stat().st_size) != size:
                size = now
                count = sum(change.value != RENEWED for change in self.seen(self.records[-1:]).changes)
                if 0 <= known < count:
                    return True
                known = count
            time.sleep(0.001)
        return False

    def start(self) -> None:
        self._daemon = self.director.start_hafsm()

    def cut(self, kind: str, off_s: float, left: Path) -> str:
        """Kill, let `left` have the end of the journal as it was found, start again. Returns what was killed: a daemon
        that has no core yet is killed itself."""
        if kind == "core":
            supervisor = self.daemon.pid
            killed = self.director.run(f"kill -KILL $(cat /proc/{supervisor}/task/{supervisor}/children)", check=False)
            if killed.rc == 0:
                return kind
            kind = "daemon"
        if kind == "kernel":
            self.director.power_cut()
            time.sleep(off_s)
            self.director.power_on()
            self.director.wait_until_up()
            self.watch()
        else:
            self.daemon.signal(signal.SIGKILL)
            self.daemon.wait()
        left.mkdir()
        newest = f"ls {JOURNAL} 2>/dev/null | grep -x 'journal-[0-9]*.db' | tail -1"
        self.director.run(
            f"newest=$({newest}); for file in {JOURNAL}/$newest {JOURNAL}/$newest-wal;"
            f" do [ ! -f $file ] || cp $file {SHARE}/{left.name}/; done"
        )
        self.start()
        return kind

    def verdict(self, patience_ms: int) -> tuple[Verdict, Seen, Told]:
        """After the journal has come to `out`."""
        seen, told = self.seen(self.records), Told()
        told.read(segments(self.out / "journal"))
        told.hear(self.log.read_text().splitlines(), seen, patience_ms * MILLISECOND)
        return explain(seen.changes, told.causes), seen, told


class Flapping:
    """Real servers that refuse, hang and come back, all the time, in a thread of its own."""

    def __init__(self, lab: Lab, seed: int) -> None:
        self._lab, self._chance = lab, random.Random(seed)
        self._stopping = threading.Event()
        self._problem: BaseException | None = None
        self.count = 0
        self._thread = threading.Thread(target=self._flap, name="flapping", daemon=True)
        self._thread.start()

    def _flap(self) -> None:
        try:
            while not self._stopping.wait(self._chance.uniform(0.3, 2.0)):
                real = self._chance.choice(self._lab.reals)
                real.start_httpd()
                self._chance.choice((real.stop_httpd, real.hang_httpd, real.start_httpd))()
                self.count += 1
        except BaseException as problem:
            self._problem = problem

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(60)
        if self._problem is not None:
            raise self._problem


class Campaign:
    """Call `run` once."""

    def __init__(
        self, lab: Lab, out: Path, *, seed: int, patience_ms: int, aimed: float, say: Callable[[str], None]
    ) -> None:
        self.lab, self.seed, self.patience_ms, self._say = lab, seed, patience_ms, say
        self._aimed = aimed
        self._chance = random.Random(seed)
        self.victims = [Victim(director, out / director.name) for director in lab.directors]
        self.cuts: Counter[str] = Counter()
        self.aimed = 0
        self.torn = 0
        """Cuts after which the end of the journal was half a commit."""
        self._left: list[Path] = []

    def run(self, cuts: int, limit_s: float) -> dict[str, tuple[Verdict, Seen, Told]]:
        """At most so many cuts in so many seconds. Returns each director's verdict, all else having been as promised.

        Raises Failed.
        """
        quiescent = self._chance.choice(("yes", "no"))
        for victim in self.victims:
            victim.install(quiescent, self.patience_ms)
            victim.watch()
            victim.start()
        self._settle()
        flapping = Flapping(self.lab, self.seed)
        began = time.monotonic()
        try:
            with self.lab.client.watch(interval=ASK_EVERY_S) as watch:
                while sum(self.cuts.values()) < cuts and time.monotonic() < began + limit_s:
                    self._cut()
        finally:
            flapping.stop()
        took = time.monotonic() - began
        for real in self.lab.reals:
            real.start_httpd()
        self._settle()
        self._by_hand()
        self._stop()
        answers = Counter(asked.error is None for asked in watch.asked())
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.cuts.items()))
        self._say(
            f"{sum(self.cuts.values())} cuts in {took:.0f} s ({kinds}; {self.aimed} of them just after a change);"
            f" real servers changed {flapping.count} times; the client got {answers[True]} answers and {answers[False]}"
            f" errors; {self.torn} journals ended in half a commit"
        )
        return {victim.name: victim.verdict(self.patience_ms) for victim in self.victims}

    def _cut(self) -> None:
        """One, at a random moment; meanwhile what the last one left is judged."""
        due = time.monotonic() + self._chance.uniform(0, GAP_S)
        victim = self._chance.choice(self.victims)
        kind = self._chance.choices(list(KINDS), list(KINDS.values()))[0]
        off_s = self._chance.choice(OFF_S)
        aimed = self._chance.random() < self._aimed
        for folder in self._left:
            self._judge(folder)
        self._left.clear()
        time.sleep(max(0.0, due - time.monotonic()))
        victim.examine()
        number = sum(self.cuts.values()) + 1
        aimed = aimed and victim.await_change(AIM_S)
        self.aimed += aimed
        left = victim.out / f"cut-{number:03d}"
        kind = victim.cut(kind, off_s, left)
        self._say(f"cut {number}: {kind} of {victim.name}{', just after a change' if aimed else ''}")
        self.cuts[kind] += 1
        if left.exists():
            self._left.append(left)

    def _judge(self, folder: Path) -> None:
        for segment in segments(folder):
            found, _, _ = survey(segment)
            self.torn += bool(found.torn_bytes)
            result = replay(segment)
            if found.gaps or not result.identical:
                raise Failed(f"seed {self.seed}: {segment}: gaps {found.gaps}, difference {result.difference}")
            for violation in check(segment):
                raise Failed(f"seed {self.seed}: {segment}: {violation}")

    def _settle(self) -> None:
        """Each VIP is at home, and only there, and every table has every real server."""
        for victim, vip in zip(self.victims, (VIP, SECOND_VIP), strict=True):
            other = next(each for each in self.victims if each is not victim)
            wait_for(
                lambda v=victim, o=other, a=vip: a in _addresses(v.director) and a not in _addresses(o.director),
                SETTLE_S,
                f"{vip} at home on {victim.name}",
            )
            wait_for(lambda v=victim: _balanced(v.director), SETTLE_S, f"the whole table on {victim.name}")

    def _by_hand(self) -> None:
        """What nobody asked for; hafsm takes the stranger out of its table when it looks next."""
        victim = self.victims[0]
        director = victim.director

        def noticed(command: str, thing: str) -> bool:
            director.run(command, check=False)  # again if hafsm was faster than the onlooker
            return any(change.thing == thing for change in victim.seen(victim.records[-1:]).changes)

        for command, (thing, _) in BY_HAND.items():
            wait_for(lambda c=command, t=thing: noticed(c, t), SETTLE_S, f"{command}, noticed")
        wait_for(lambda: _balanced(director), SETTLE_S, "the stranger out of the table")

    def _stop(self) -> None:
        for victim in self.victims:
            for folder in self._left:
                self._judge(folder)
            self._left.clear()
            victim.examine()
            victim.daemon.signal(signal.SIGTERM)
        for victim in self.victims:
            if status := victim.daemon.wait(SETTLE_S):
                raise Failed(f"the daemon on {victim.name} stopped with status {status}: {victim.daemon.output()}")
            victim.director.run(f"cp -r {JOURNAL} {SHARE}/journal", timeout=SETTLE_S)

    def by_command(self) -> None:
        """`journal verify`, `replay` and `journal check` of both whole journals. Raises Failed."""
        for victim in self.victims:
            folder = victim.out / "journal"
            for words in (["journal", "verify", folder], ["replay", folder], ["journal", "check", *segments(folder)]):
                done = subprocess.run(
                    [sys.executable, "-m", "hafsm.cli.main", *map(str, words)],
                    cwd=ROOT,
                    capture_output=True,
                    text=True,
                    timeout=600,
                    check=False,
                )
                command = " ".join(str(word) for word in words if not isinstance(word, Path))
                lines = len(done.stdout.splitlines())
                self._say(f"{victim.name}: hafsm {command}: status {done.returncode}, {lines} lines")
                if done.returncode:
                    raise Failed(f"seed {self.seed}: hafsm {command}: {done.stdout}{done.stderr}")


def _addresses(director: Director) -> set[str]:
    listed = json.loads(director.run("ip -j -4 addr show dev eth0").stdout)
    return {address["local"] for address in listed[0]["addr_info"]}


def _balanced(director: Director) -> bool:
    """Both real servers in both services, and nobody else."""
    return director.run("grep -c ' Route  *1 ' /proc/net/ip_vs", check=False).stdout.strip() == "4"


def play(
    lab: Lab,
    out: Path,
    *,
    seed: int,
    cuts: int,
    limit_s: float,
    patience_ms: int = PATIENCE_MS,
    aimed: float = AIMED,
    say: Callable[[str], None] = print,
) -> Counter[Why]:
    """The whole campaign on a booted laboratory; returns what explained how many changes, of both directors.

    Raises Failed at the first promise that is broken.
    """
    say(f"seed {seed}, journal patience {patience_ms} ms")
    campaign = Campaign(lab, out, seed=seed, patience_ms=patience_ms, aimed=aimed, say=say)
    verdicts = campaign.run(cuts, limit_s)
    campaign.by_command()
    explained: Counter[Why] = Counter()
    broken: list[str] = []
    for (director, (verdict, seen, told)), expected in zip(verdicts.items(), ({*BY_HAND.values()}, set()), strict=True):
        why = ", ".join(f"{count} by {why.value}" for why, count in sorted(verdict.explained.items(), key=str))
        by_hand = {(change.thing, change.value) for change in verdict.unexplained} & expected
        others = [
            text
            for change, text in zip(verdict.unexplained, verdict.text, strict=True)
            if (change.thing, change.value) not in expected
        ]
        say(
            f"{director}: {len(seen.changes)} changes seen in {len({c.boot for c in seen.clocks})} boots and"
            f" {len(told.lives)} lives: {why}; {len(by_hand)} made by hand, {len(others)} without a cause."
            f" {told.lost} decisions were lost before they were on disk"
        )
        explained += verdict.explained
        if by_hand != expected:
            broken.append(f"{director}: made by hand, and not noticed: {sorted(expected - by_hand)}")
        if seen.deaf:
            broken.append(f"{director}: the onlooker missed changes {seen.deaf} times")
        broken += [f"{director}: {text}" for text in others]
    if broken:
        raise Failed("\n".join([f"seed {seed}: changes without a cause", *broken]))
    return explained


@click.command()
@click.option("--cuts", default=200, show_default=True)
@click.option("--seed", type=int, help="Default: drawn, and printed.")
@click.option("--minutes", default=60.0, show_default=True, help="No further cut after that long.")
@click.option(
    "--patience-ms", default=PATIENCE_MS, show_default=True, help="Of the journal; 10000: law L3 never applies."
)
@click.option("--keep", type=click.Path(path_type=Path), help="New folder for journals, logs and what was seen.")
def main(cuts: int, seed: int | None, minutes: float, patience_ms: int, keep: Path | None) -> None:
    """Cut the power of two directors under load, and ask everybody why what happened happened."""
    missing = missing_prerequisite()
    if missing:
        raise click.ClickException(f"real kernels: {missing}")
    with tempfile.TemporaryDirectory(prefix="hafsm-cuts-") as scratch:
        out = keep or Path(scratch) / "out"
        out.mkdir()
        lab = Lab()
        try:
            lab.boot()
            lab.restore()
            drawn = random.SystemRandom().randrange(1 << 32) if seed is None else seed
            play(lab, out, seed=drawn, cuts=cuts, limit_s=minutes * 60, patience_ms=patience_ms)
        except Failed as failure:
            raise click.ClickException(str(failure)) from failure
        finally:
            lab.close()


if __name__ == "__main__":
    main()
