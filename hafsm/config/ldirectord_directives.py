"""The directives of ldirectord.cf: one table that says where each may stand, how it is read, and what it means.

docs/configuration.md shows the same table; a test compares the two. Scopes, forms and defaults are those of ldirectord
1.186 (Debian 12), as its program has them, not its manual.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from hafsm.config.findings import quote, suggestion
from hafsm.config.ldirectord_values import Note, bare, number, quoted, text, unquoted, yes_no
from hafsm.config.names import Misread, absolute_path, whole
from hafsm.config.perl_regex import quotes_with_q, translate
from hafsm.core.settings import MailPhase

SECONDS_LIMIT = 86_400
PERSISTENT_LIMIT_S = 31 * 86_400
"""ipvsadm's limit: 31 days."""
SCHEDULERS = ("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos")
"""Those of Linux 6.1."""
SCHEDULER_FLAGS = ("flag-1", "flag-2", "flag-3", "sh-fallback", "sh-port", "mh-fallback", "mh-port")
"""ipvsadm's words for `-b`."""
CHECKTYPES = ("negotiate", "connect", "ping", "external", "external-perl", "on", "off")
PORT_SERVICES = {
    21: "ftp",
    25: "smtp",
    53: "dns",
    80: "http",
    110: "pop",
    119: "nntp",
    143: "imap",
    389: "ldap",
    443: "https",
    587: "submission",
    636: "ldaps",
    993: "imaps",
    995: "pops",
    1521: "oracle",
    1812: "radius",
    3128: "http_proxy",
    3306: "mysql",
    5060: "sip",
    5432: "pgsql",
}
"""The port implies the service of a negotiate check; any other port and every mark imply `none`."""
SERVICES = (*PORT_SERVICES.values(), "simpletcp", "none")
EXECUTE_LIMIT = 64
"""Files that are read together; more is a loop or a mistake."""
FILE_NAME_LIMIT = 512
"""Characters; messages repeat a file's name as it is."""
SECRETS = frozenset({"passwd", "secret"})
"""Directives whose value no message repeats and no value holds."""
BYTES = SECRETS | {"receive", "real", "real6"}
"""Directives whose text may hold any byte: what servers answer and want to hear need not be UTF-8."""
FREE_TEXT = frozenset({"comment", "servicename", "emailalertfrom"})
"""Directives for people; a file from before UTF-8 may have letters of Latin-1 there."""

_VIRTUALHOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?")
_HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")
_FACILITY = re.compile(r"[a-z][a-z0-9]*")


@dataclass(frozen=True, slots=True)
class Number:
    """The first run of digits of the value, within limits."""

    low: int
    high: int

    def read(self, value: str, note: Note) -> int:
        return number(value, self.low, self.high, note)


@dataclass(frozen=True, slots=True)
class YesNo:
    """1 or 0."""

    bare: bool = False
    """May stand without a value, which means yes."""
    odd: tuple[str, str, str] | None = None
    """What is noted wherever it stands."""

    def read(self, value: str, note: Note) -> int:
        if self.odd:
            note(*self.odd)
        return int(yes_no(value))


@dataclass(frozen=True, slots=True)
class Text:
    """One text."""

    read: Callable[[str, Note], str]


@dataclass(frozen=True, slots=True)
class Texts:
    """Several texts; of an accumulating directive those of all its lines."""

    read: Callable[[str, Note], tuple[str, ...]]
    accumulates: bool = False


@dataclass(frozen=True, slots=True)
class Server:
    """`real` and `fallback` lines, read where their section is known."""


Reader: TypeAlias = Number | YesNo | Text | Texts | Server


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the table."""

    where: str
    """`G` for column 0, `S` for a section, or both."""
    form: str
    """What stands behind `=`, `|` for or."""
    default: str
    meaning: str
    reader: Reader

    @property
    def accumulates(self) -> bool:
        return isinstance(self.reader, Server) or (isinstance(self.reader, Texts) and self.reader.accumulates)


def _one_of(value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise Misread(f"one of {', '.join(known)}", remedy=suggestion(value, known))
    return value


def _word_without_quotes(value: str, note: Note) -> str:
    word = value.strip('"')
    if word != value:
        note("in quotes", "it without quotes", "")
    return word


def _protocol(value: str, note: Note) -> str:
    if value == "sctp":
        note("sctp is hafsm's own", "tcp, udp or fwm", "ldirectord refuses it")
    return _one_of(value, ("tcp", "udp", "sctp", "fwm"))


def _scheduler(value: str, note: Note) -> str:
    word = _word_without_quotes(value, note)
    if word not in SCHEDULERS:
        raise Misread(
            f"a scheduler of the kernel: {', '.join(SCHEDULERS)}",
            remedy=suggestion(word, SCHEDULERS) if len(word) > 2 else "",
        )
    return word


def _schedflags(value: str, note: Note) -> tuple[str, ...]:
    first, *rest = value.split() or [""]
    if rest:
        note("more than one word", "flags with commas between them", "Only the first word counts, as in ldirectord")
    flags: list[str] = []
    for word in _word_without_quotes(first, note).split(","):
        flag = f"flag-{word}" if word in ("1", "2", "3") else word
        if flag != word:
            note(quote(word), flag, "ipvsadm wants the name")
        flags.append(_one_of(flag, SCHEDULER_FLAGS))
    return tuple(dict.fromkeys(flags))


def _netmask(value: str, _: Note) -> str:
    expected = "a netmask such as 255.255.255.0, or for IPv6 a prefix length from 1 to 128"
    if value.isascii() and value.isdigit():
        try:
            return str(whole(value, 1, 128))
        except Misread:
            raise Misread(expected) from None
    try:
        mask = int(ipaddress.IPv4Address(value))
    except ValueError:
        raise Misread(expected) from None
    inverted = mask ^ 0xFFFFFFFF
    if not mask or inverted & (inverted + 1):
        raise Misread(expected)
    return value


def _checktype(value: str, note: Note) -> str:
    word = _word_without_quotes(value, note)
    if word.isascii() and word.isdigit():
        return str(whole(word, 0, 1_000_000))
    if word not in CHECKTYPES:
        remedy = suggestion(word, CHECKTYPES)
        if re.search(r"[0-9]", word):
            remedy = f"ldirectord takes {quote(word)} for the number in it"
        raise Misread(f"one of {', '.join(CHECKTYPES)}, or a number", remedy=remedy)
    return word


def _service(value: str, _: Note) -> str:
    return _one_of(value, SERVICES)


def _receive(value: str, note: Note) -> str:
    return receive(quoted(value, note, "Test Page"), note)


def receive(value: str, note: Note) -> str:
    """A Perl regular expression as Python has it. Raises Misread."""
    found = translate(value)
    if quotes_with_q(value):
        note(r"\Q in a regular expression", "the signs with a backslash each", "ldirectord looks for the letter Q")
    return found


def _virtualhost(value: str, note: Note) -> str:
    host = value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
    if not host:
        note("no host", "a host name", "The real server's address is sent as Host, as without the line")
        return ""
    if not _VIRTUALHOST.fullmatch(host):
        raise Misread("a host name such as www.example.com")
    return host


def _httpmethod(value: str, _: Note) -> str:
    return _one_of(value.upper(), ("GET", "HEAD"))


def _command(value: str, note: Note) -> tuple[str, ...]:
    inner = unquoted(value) if value.count('"') <= 2 else text(value)
    try:
        words = tuple(shlex.split(inner))
    except ValueError:
        raise Misread("quotes in pairs") from None
    if not words or not words[0].startswith("/"):
        raise Misread("the absolute path of a program, and if need be its own arguments")
    if len(words) > 1:
        note("a command with arguments of its own", "a path alone", "ldirectord takes the whole for the program's name")
    return words


def _own_quotes(value: str, _: Note) -> str:
    if not value.strip('" '):
        raise Misread("a command")
    return text(value)


def _path(value: str, note: Note) -> str:
    return absolute_path(bare(value, note))


def _stripped_path(value: str, _: Note) -> str:
    return absolute_path(unquoted(value))


def _quoted_path(value: str, note: Note) -> str:
    return absolute_path(quoted(value, note, "/usr/local/bin/changed"))


def _file(value: str, note: Note) -> tuple[str, ...]:
    name = bare(value, note)
    if any(character.isspace() for character in name) or len(name) > FILE_NAME_LIMIT:
        raise Misread(f"one file name without blanks, of at most {FILE_NAME_LIMIT} characters")
    return (name,)


def _logfile(value: str, note: Note) -> str:
    name = quoted(value, note, "local0")
    if not name.startswith("/") and not _FACILITY.fullmatch(name):
        raise Misread('a path such as "/var/log/ldirectord.log", or a syslog facility such as "local0"')
    note(
        "hafsm writes one log",
        "logfile, debugfile or logfacility in ha.cf",
        "Without them it goes to stderr, which is systemd's journal",
    )
    return name


def _addresses(value: str, _: Note) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(word for word in re.split(r"[,\s]+", unquoted(value)) if word))
    for word in found:
        if word.startswith("-") or word.count("@") > 1 or not re.fullmatch(r'[^\s"<>()\[\]:;\\]+', word):
            raise Misread("mail addresses with commas between them")
    if not found:
        raise Misread("mail addresses with commas between them")
    return found


def _phases(value: str, _: Note) -> tuple[str, ...]:
    known = ("all", "none", *(phase.value for phase in MailPhase))
    words = [_one_of(word, known) for word in re.split(r"[,\s]+", value) if word]
    if not words:
        raise Misread(f"one of {', '.join(known)}")
    if "none" in words and len(set(words)) > 1:
        raise Misread("none alone, or the others without it")
    if "all" in words:
        return tuple(phase.value for phase in MailPhase)
    return tuple(phase.value for phase in MailPhase if phase.value in words)


def _smtp(value: str, note: Note) -> str:
    host = bare(value, note)
    if not _HOST.fullmatch(host):
        raise Misread("a host name or address")
    return host


def _load(value: str, note: Note) -> str:
    note("nothing uses it, in ldirectord neither", "nothing", "Remove the line")
    return quoted(value, note)


_SECONDS = Number(1, SECONDS_LIMIT)
_QUOTED = Text(quoted)
_PLAIN = Text(lambda value, _: text(value))

DIRECTIVES: dict[str, Entry] = {
    "checktimeout": Entry(
        "G S", "N", "5", "seconds for a check of the kinds connect, ping, external, external-perl, ldap, ldaps, radius."
        " It and `negotiatetimeout` are each other's default, the section first", _SECONDS,
    ),
    "negotiatetimeout": Entry("G S", "N", "30", "seconds for a check of any other kind", _SECONDS),
    "checkinterval": Entry(
        "G S", "N", "10", "seconds between two checks of a server; in a section only with `fork=yes`", _SECONDS
    ),
    "checkcount": Entry(
        "G S", "N", "1", "echo requests in one ping check, each with `checktimeout`. Other checks do not use it",
        Number(1, 1000),
    ),
    "failurecount": Entry("G S", "N", "1", "failed checks in a row that take a server out", Number(1, 1000)),
    "fork": Entry(
        "G", "yes|no", "no", "accepted: checks always run side by side. yes lets a section set its `checkinterval`",
        YesNo(),
    ),
    "quiescent": Entry(
        "G S", "yes|no", "no", "yes: a dead server gets weight 0; no: its entry is deleted", YesNo()
    ),
    "readdquiescent": Entry(
        "G", "yes|no", "no", "with `quiescent`: a server that is not known to be up is entered with weight 0", YesNo()
    ),
    "fallback": Entry(
        "G S", "HOST[:PORT] [gate|masq|ipip]", "none", "the server while no real server is up; gate unless said. "
        "Empty: 127.0.0.1. The global one serves IPv4 services", Server(),
    ),
    "fallback6": Entry(
        "G S", "HOST[:PORT] [gate|masq|ipip]", "none", "the same for IPv6. Empty: ::1", Server()
    ),
    "fallbackcommand": Entry(
        "G S", "COMMAND", "none", "run as `COMMAND start|stop VIP:PORT PROTOCOL` when the last real server goes and "
        "the first one returns", Text(_own_quotes),
    ),
    "cleanstop": Entry("G S", "yes|no", "yes", "no: the service stays in the kernel when the daemon stops", YesNo()),
    "maintenancedir": Entry(
        "G", "DIR", "none", "a folder; a file in it named after a real server takes that server out", Text(_path)
    ),
    "autoreload": Entry("G", "yes|no", "no", "read the file again when it changed", YesNo()),
    "callback": Entry(
        "G", '"PATH"', "none", "run as `PATH FILE` when the file has changed", Text(_quoted_path)
    ),
    "logfile": Entry(
        "G", '"PATH"|"FACILITY"', "", "accepted with a warning: hafsm has one log, and ha.cf says where",
        Text(_logfile),
    ),
    "execute": Entry(
        "G", "FILE", "none", "a further file of this kind, with globals of its own; its services join. Repeatable",
        Texts(_file, accumulates=True),
    ),
    "supervised": Entry(
        "G", "[yes|no]", "", "accepted with a warning: hafsm always stays in the foreground",
        YesNo(bare=True, odd=("hafsm always stays in the foreground", "nothing", "Remove the line")),
    ),
    "emailalert": Entry(
        "G S", "ADDRESS[, ADDRESS…]", "none", "who gets a mail when a real server goes or returns", Texts(_addresses)
    ),
    "emailalertfrom": Entry("G", "TEXT", "the mail system's", "the From header", _PLAIN),
    "emailalertfreq": Entry(
        "G S", "N", "0", "seconds between reminders while a real server is down; 0 for none", Number(0, 31 * 86_400)
    ),
    "emailalertstatus": Entry(
        "G S", "all|none|LIST", "all", "when mail is sent: of starting, running, stopping, reloading", Texts(_phases)
    ),
    "smtp": Entry("G S", "HOST", "none", "send mail through it rather than by the local mailer", Text(_smtp)),
    "monitorfile": Entry("S", "PATH", "none", "gets a line for each check", Text(_stripped_path)),
    "servicename": Entry("S", "TEXT", "none", "stands in mails", _PLAIN),
    "comment": Entry("S", "TEXT", "none", "stands in mails", _PLAIN),
    "real": Entry(
        "S", 'HOST[->HOST][:PORT] gate|masq|ipip [WEIGHT] ["REQUEST","RECEIVE"] [l:N] [u:N]', "", "real servers. "
        "Weight 1 unless said, 0 to 65535; `l:` and `u:` are connection thresholds. Repeatable", Server(),
    ),
    "real6": Entry("S", "as `real`", "", "the same for IPv6", Server()),
    "protocol": Entry(
        "S", "tcp|udp|sctp|fwm", "tcp", "udp for port 53, fwm for a mark. sctp is hafsm's own", Text(_protocol)
    ),
    "scheduler": Entry("S", "NAME", "wrr", ", ".join(SCHEDULERS), Text(_scheduler)),
    "schedflags": Entry(
        "S", "FLAG[,FLAG…]", "none", f"{', '.join(SCHEDULER_FLAGS)}; those of sh and mh need that scheduler",
        Texts(_schedflags),
    ),
    "persistent": Entry(
        "S", "N", "none", "seconds a client stays with its server; 0 = not at all", Number(0, PERSISTENT_LIMIT_S)
    ),
    "netmask": Entry(
        "S", "MASK|PREFIX", "none", "clients of one such network count as one; only with `persistent`. For IPv6 a "
        "prefix length", Text(_netmask),
    ),
    "ops": Entry(
        "S", "yes|no", "no", "yes: every packet is scheduled by itself. For udp and marks", YesNo()
    ),
    "checktype": Entry(
        "S", "negotiate|connect|ping|external|external-perl|on|off|N", "negotiate", "how a server is judged; see below",
        Text(_checktype),
    ),
    "service": Entry("S", "NAME", "by port", "what negotiate talks; see below", Text(_service)),
    "checkport": Entry("S", "N", "the server's port", "the port to check", Number(1, 65535)),
    "request": Entry(
        "S", '"TEXT"', "/", "what is asked for; see below. A URL is asked as it is, with a warning: the check goes to "
        "that host. A user in it is sent as HTTP's basic authorization",
        Text(lambda value, note: quoted(value, note, "index.html")),
    ),
    "receive": Entry(
        "S", '"REGEX"', "none", "must be found in the answer; a Perl regular expression, matched on bytes",
        Text(_receive),
    ),
    "httpmethod": Entry(
        "S", "GET|HEAD", "GET", "HEAD with `receive` never matches and is an error", Text(_httpmethod)
    ),
    "virtualhost": Entry(
        "S", "NAME", "the server's address", "Host header, and the name sent in TLS", Text(_virtualhost)
    ),
    "login": Entry(
        "S", '"TEXT"', "see below", "user of ftp, imap, ldap, mysql, oracle, pgsql, pop, radius; address of sip",
        _QUOTED,
    ),
    "passwd": Entry("S", '"TEXT"', "see below", "that user's password", _QUOTED),
    "database": Entry("S", '"TEXT"', "none", "of mysql, pgsql, oracle", _QUOTED),
    "secret": Entry("S", '"TEXT"', "none", "shared secret of radius", _QUOTED),
    "checkcommand": Entry(
        "S", "PATH [ARGUMENT…]", "/bin/true", "program of external and external-perl; never run through a shell",
        Texts(_command),
    ),
    "load": Entry("S", '"WORD"', "", "accepted with a warning: nothing uses it", Text(_load)),
}  # fmt: skip
GLOBAL_KEYS = frozenset(key for key, entry in DIRECTIVES.items() if "G" in entry.where)
SECTION_KEYS = frozenset(key for key, entry in DIRECTIVES.items() if "S" in entry.where)
VIRTUALS = ("virtual", "virtual6")
KNOWN = frozenset({*DIRECTIVES, *VIRTUALS})


def reference() -> Iterator[str]:
    """The table as Markdown, line by line."""
    yield "| directive | | default | meaning |"
    yield "| --- | --- | --- | --- |"
    for key, entry in DIRECTIVES.items():
        form = entry.form if entry.form.startswith("as ") else f"`{key}={entry.form}`"
        name = f"`{key}`, {entry.form}" if entry.form.startswith("as ") else form.replace("|", "\\|")
        yield f"| {name} | {entry.where} | {entry.default} | {entry.meaning.replace('|', chr(92) + '|')} |"
