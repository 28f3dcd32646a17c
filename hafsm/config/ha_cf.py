"""Reads ha.cf line by line; what concerns several lines is judged in `lint`.

Grammar (heartbeat 3.0.6): a directive and its values on one line, `#` starts a comment anywhere, names are
case-sensitive. Values of ordinary directives are separated by blanks or commas and the last one counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from hafsm.config import ha_cf_media, ha_cf_programs
from hafsm.config.findings import Report, quote, suggestion
from hafsm.config.ha_cf_values import BAUD_DEFAULT, IDLE, NUMBERS, REFUSED, TEXTS, boolean
from hafsm.config.model import ApiAuth, FenceDevice, HaCf, Medium, Respawn, Serial
from hafsm.config.names import Misread, word_set
from hafsm.config.source import Source, is_clean
from hafsm.core.settings import SECOND, AutoFailback, NodeName, PingNode

_NODE = re.compile(r"[A-Za-z0-9._-]{1,99}")

LISTS = word_set(
    "apiauth bcast env mcast mcast6 node ping ping6 ping_group respawn serial stonith stonith_host ucast ucast6 udp"
)
"""Directives that accumulate."""

OLD = "nice_failback"
"""heartbeat 1's word for auto_failback off."""

DIRECTIVES = frozenset((*NUMBERS, *TEXTS, *IDLE, *REFUSED, *LISTS, OLD))
"""Every directive that heartbeat 3 knows."""


@dataclass(slots=True)
class ReadHaCf:
    """What ha.cf says, with the places the lint needs."""

    value: HaCf
    lines: dict[str, int]
    """Directive → the line that counts; absent directives are absent."""
    broken: frozenset[str]
    """Directives that an error was reported for: nothing more is to be said about them."""


@dataclass(slots=True)
class _Reader:
    report: Report
    line: int = 0
    numbers: dict[str, int] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    nodes: list[NodeName] = field(default_factory=list)
    media: list[tuple[int, Medium]] = field(default_factory=list)
    pings: list[PingNode] = field(default_factory=list)
    respawn: list[Respawn] = field(default_factory=list)
    apiauth: list[ApiAuth] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    fencing: list[FenceDevice] = field(default_factory=list)

    def directive(self, name: str, rest: str) -> None:
        if name not in DIRECTIVES:
            self.fail(
                name,
                f"unknown directive {quote(name)}",
                "a directive of ha.cf",
                suggestion(name, DIRECTIVES - REFUSED.keys()),
            )
        elif name in REFUSED:
            found, expected, remedy = REFUSED[name]
            self.fail(name, found.format(name), expected, remedy)
        elif not (values := words(rest)):
            self.fail(name, f'"{name}" without a value', "its value on the same line")
        elif name in LISTS:
            self.accumulate(name, rest)
        else:
            self.single(name, values)

    def fail(self, name: str, found: str, expected: str, remedy: str = "") -> None:
        self.broken.add(name)
        self.report.error(self.line, found, expected, remedy)

    def single(self, name: str, values: list[str]) -> None:
        if len(values) > 1:
            self.report.warn(self.line, f'"{name}" has {len(values)} values', "one", "The last one counts")
        if name in self.lines:
            self.report.warn(
                self.line, f'"{name}" stands in line {self.lines[name]} already', "it once", "The last one counts"
            )
        try:
            for value in values:
                if name in NUMBERS:
                    self.numbers[name] = NUMBERS[name](value)
                elif name in TEXTS:
                    self.texts[name] = TEXTS[name](value)
                elif name in IDLE:
                    IDLE[name].read(value)
                else:
                    self.nice_failback(value)
            self.lines[name] = self.line
            if name in IDLE and values[-1].lower() not in IDLE[name].silent:
                self.report.warn(self.line, f'"{name}" changes nothing', "no such line", IDLE[name].reason)
        except Misread as error:
            self.fail(name, f'"{name}" is {quote(value)}', error.expected, error.remedy)

    def accumulate(self, name: str, rest: str) -> None:
        self.lines.setdefault(name, self.line)
        try:
            match name:
                case "node":
                    self.each(name, words(rest), self.node)
                case "bcast" | "udp" | "serial":
                    if name == "udp":
                        self.report.warn(self.line, '"udp" is an old word', '"bcast"', "Both mean the same")
                    self.each(name, words(rest), lambda word: self.medium(ha_cf_media.one_word(name, word)))
                case "ucast" | "ucast6" | "mcast" | "mcast6":
                    self.medium(ha_cf_media.many_words(name, words(rest)))
                case "ping":
                    self.each(name, words(rest), lambda word: self.ping(word, [ha_cf_media.ping_host(word)]))
                case "ping6":
                    self.each(name, words(rest), lambda word: self.ping(word, [ha_cf_media.ping6_host(word)]))
                case "ping_group":
                    group, *hosts = words(rest) or [""]
                    if not hosts:
                        raise Misread("a name and at least one host: ping_group NAME HOST …")
                    self.ping(group, [ha_cf_media.ping_group_host(host) for host in hosts])
                case "stonith":
                    self.fence_device(ha_cf_programs.stonith(rest.split()))
                case "stonith_host":
                    self.fence_device(ha_cf_programs.stonith_host(rest.split()))
                case "respawn":
                    self.respawn.append(ha_cf_programs.respawn(rest.split()))
                case "env":
                    self.env.update(map(ha_cf_programs.environment, words(rest)))
                case "apiauth":
                    self.api_user(ha_cf_programs.api_auth(rest.split()))
        except Misread as error:
            self.fail(name, error.found or quote(f"{name} {rest}"), error.expected, error.remedy)

    def each(self, name: str, values: Iterable[str], take: Callable[[str], None]) -> None:
        for value in values:
            try:
                take(value)
            except Misread as error:
                self.fail(name, error.found or f'"{name}" names {quote(value)}', error.expected, error.remedy)

    def node(self, word: str) -> None:
        name = NodeName(word.lower())
        if not _NODE.fullmatch(word):
            raise Misread("a node name as uname -n shows it: letters, digits, dots, hyphens")
        if name in self.nodes:
            self.report.warn(self.line, f"node {quote(name)} is named again", "each node once", "The first counts")
        else:
            self.nodes.append(name)

    def medium(self, medium: Medium) -> None:
        if any(medium == other for _, other in self.media):
            self.report.warn(self.line, f"this medium on {medium.name} is given again", "each medium once")
        else:
            self.media.append((self.line, medium))

    def ping(self, name: str, addresses: list[str]) -> None:
        if any(ping.name == name for ping in self.pings):
            raise Misread(
                "each ping node or group once",
                found=f"ping node {quote(name)} is named again",
                remedy="Remove one of them",
            )
        self.pings.append(PingNode(name=name, hosts=tuple(dict.fromkeys(addresses))))

    def fence_device(self, device: FenceDevice) -> None:
        if any(device.host == other.host for other in self.fencing):
            raise Misread(
                "one stonith or stonith_host line for each host",
                found=f"a second stonith device for {quote(device.host)}",
                remedy="Remove one of them",
            )
        self.fencing.append(device)

    def api_user(self, entry: ApiAuth) -> None:
        if any(entry.name == other.name for other in self.apiauth):
            raise Misread(
                "each name once", found=f"apiauth {quote(entry.name)} is given again", remedy="Remove one of them"
            )
        self.apiauth.append(entry)

    def nice_failback(self, value: str) -> None:
        """heartbeat 3: off if an auto_failback of on or off stands above, else legacy, whatever the value says."""
        boolean(value)
        above = self.texts.get("auto_failback", AutoFailback.LEGACY.value)
        meant = AutoFailback.LEGACY if above == AutoFailback.LEGACY.value else AutoFailback.OFF
        self.texts["auto_failback"] = meant.value
        self.report.warn(
            self.line,
            f'"{OLD}" is an old word, which heartbeat 3 takes for auto_failback {meant.value} here',
            "auto_failback on or off",
            "Replace it",
        )

    def port_orders(self) -> None:
        """heartbeat gives a medium the port or speed that stands above it; hafsm has one for all."""
        for name, default, media in (
            ("udpport", 694, ("bcast", "udp", "ucast", "ucast6")),
            ("baud", BAUD_DEFAULT, ("serial",)),
        ):
            firsts = [self.lines[medium] for medium in media if medium in self.lines]
            if name not in self.lines or not firsts or self.lines[name] < min(firsts):
                continue
            say = self.report.warn if self.numbers[name] == default else self.report.error
            say(
                self.lines[name],
                f'"{name}" stands below the medium of line {min(firsts)}',
                "it above all media",
                f"Move it up; heartbeat would use {default} for the media above it",
            )

    def value(self) -> HaCf:
        deadtime = self.numbers.get("deadtime", 30 * SECOND)
        baud = self.numbers.get("baud", BAUD_DEFAULT)
        media = (Serial(device=m.device, baud=baud) if isinstance(m, Serial) else m for _, m in self.media)
        return HaCf(
            keepalive_ns=self.numbers.get("keepalive", SECOND),
            deadtime_ns=deadtime,
            warntime_ns=self.numbers.get("warntime", deadtime // 2),
            initdead_ns=self.numbers.get("initdead", default_initdead_ns(deadtime)),
            deadping_ns=self.numbers.get("deadping", deadtime),
            nodes=tuple(self.nodes),
            media=tuple(media),
            udpport=self.numbers.get("udpport", 694),
            auto_failback=AutoFailback(self.texts.get("auto_failback", AutoFailback.LEGACY.value)),
            pings=tuple(self.pings),
            respawn=tuple(self.respawn),
            env=tuple(self.env.items()),
            fencing=tuple(self.fencing),
            watchdog=self.texts.get("watchdog", ""),
            apiauth=tuple(self.apiauth),
            logfile=self.texts.get("logfile", ""),
            debugfile=self.texts.get("debugfile", ""),
            logfacility=self.texts.get("logfacility", ""),
            debug=self.numbers.get("debug", 0),
            hopfudge=self.numbers.get("hopfudge", 1),
            realtime=bool(self.numbers.get("realtime", 1)),
            rtprio=self.numbers.get("rtprio"),
            coredumps=bool(self.numbers.get("coredumps", 1)),
            coreroot=self.texts.get("coreroot", ""),
        )


def default_initdead_ns(deadtime_ns: int) -> int:
    """heartbeat's default: deadtime above 10 s: the same; below 6 s: 12 s; between: twice."""
    if deadtime_ns > 10 * SECOND:
        return deadtime_ns
    return 12 * SECOND if deadtime_ns < 6 * SECOND else 2 * deadtime_ns


def words(rest: str) -> list[str]:
    """Values separated by blanks or commas."""
    return [word for word in re.split(r"[ \t,]+", rest) if word]


def read_ha_cf(source: Source, report: Report) -> ReadHaCf:
    """Every line of ha.cf; errors go to `report`, a value in error is left at its default."""
    reader = _Reader(report)
    for line in source.lines:
        text = line.text.partition("#")[0].strip(" \t")
        if not text or not is_clean(line, text, report):
            continue
        reader.line = line.number
        name, *rest = re.split(r"[ \t]+", text, maxsplit=1)
        reader.directive(name, rest[0] if rest else "")
    reader.port_orders()
    return ReadHaCf(value=reader.value(), lines=reader.lines, broken=frozenset(reader.broken))
