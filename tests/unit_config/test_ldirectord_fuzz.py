"""Whatever stands in a ldirectord.cf: findings, never an exception, in bounded time and memory, and no secret shown."""

from __future__ import annotations

import re
import tempfile
import tracemalloc
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hafsm.config import findings, ldirectord_scope
from hafsm.config.findings import FINDINGS_LIMIT
from hafsm.config.ldirectord_directives import DIRECTIVES, SERVICES
from hafsm.config.load import load_ldirectord
from hafsm.core.settings import VirtualService

SECRET = "".join(("Hu", "sh"))
"""In two parts, or hypothesis would find it here and put it where none belongs."""
SOUND = [file.read_bytes() for file in sorted((Path(__file__).parent / "ldirectord_files").glob("*.cf"))]
BYTES = st.binary(max_size=60) | st.sampled_from(
    [
        b"\n",
        b"\n\t",
        b"\n    ",
        b"\r\n",
        b"\x00",
        b"\xff",
        b"#",
        b'"',
        b"->",
        b"[",
        b"]",
        b"=",
        b"\\",
        b"(",
        b"\xc2\xa0",
    ]
)
VALUES = (
    *(
        "yes",
        "no",
        "1",
        "0",
        "5s",
        "-1",
        "9" * 400,
        "gate",
        "",
        "x",
        '""',
        '"a"',
        '"(?i)a|b"',
        '"[[:alpha:]"',
        '"a{9}{9}"',
    ),
    *("10.0.0.1:80 gate", "10.0.0.1->10.0.0.9:80 masq 3", '[fd00::1]:80 ipip 1 "a","b" l:1 u:2', "10.0.0.1 masq"),
    *(
        f'10.0.0.1:80 gate 1 "http://u:{SECRET}@h/","b"',
        f'"http://u:{SECRET}@h/x"',
        f"http://a:{SECRET}@b/",
        "fwm",
        "udp",
    ),
    *("0.0.0.0->255.255.255.255:80 gate", "[::]->[ffff::]:1 gate", "a@b, c@d", "none", "all", "255.255.255.0", "64"),
    *(
        "/bin/true",
        '"/bin/true"',
        "/bin/x 'a",
        "sh-port,flag-1",
        "wlc",
        "mh",
        "connect",
        "ping",
        "external",
        "3",
        "²",
        "é",
    ),
    *(
        "web1.example:80 gate",
        '"' + "(" * 2000 + '"',
        '"' + "(a*)*" * 50 + '"',
        "fuzz.cf",
        "/dev/zero",
        "/proc/self/mem",
    ),
)
LINES = st.tuples(
    st.sampled_from(["", "\t", "    ", " "]),
    st.sampled_from([*DIRECTIVES, "virtual", "virtual6"]),
    st.sampled_from(["=", " = ", ""]),
    st.sampled_from([*VALUES, *SERVICES]),
).map("".join)
GOOD = (
    *(
        "quiescent=yes",
        "cleanstop=no",
        "failurecount=3",
        "checkcount=2",
        "checkinterval=4",
        "checktimeout=9",
        "ops=yes",
    ),
    *("persistent=60", "scheduler=sh", "schedflags=flag-1", "checktype=ping", "checktype=connect", "checktype=4"),
    *("checktype=external", "checktype=off", "checktype=on", "checkcommand=/bin/true", "httpmethod=HEAD", "comment=x"),
    *("virtualhost=a.example", 'login="u"', 'database="d"', 'request="SELECT 1"', 'request="/a/b"', 'receive="a.*b"'),
    *(
        "emailalert=a@b",
        "emailalertfreq=60",
        "emailalertstatus=running",
        "smtp=mail",
        "monitorfile=/var/m",
        "checkport=8",
    ),
    *("fallbackcommand=/bin/f", "fallback6=[::1]:80 ipip", "fallback=127.0.0.1 ipip", "real6=[fd00::3]:80 ipip 0"),
    *(
        'request="http://www.example/"',
        f'request="http://u:{SECRET}@h/"',
        f'real=10.0.0.9:80 ipip "http://u:{SECRET}@h/","b"',
    ),
)
SECTIONS = st.tuples(
    st.sampled_from(
        ["virtual=10.0.0.1:80", "virtual=7", "virtual6=[fd00::1]:443", "virtual6=9", "virtual=10.0.0.1:53"]
    ),
    st.lists(
        st.sampled_from(GOOD)
        | st.tuples(
            st.sampled_from([key for key, entry in DIRECTIVES.items() if "S" in entry.where]), st.sampled_from(VALUES)
        ).map("=".join),
        max_size=6,
    ),
    st.sampled_from(SERVICES),
).map(
    lambda section: "\n\t".join(
        [
            section[0],
            "real=10.0.0.2:80 ipip",
            *section[1],
            f'passwd="{SECRET}"',
            f'secret="{SECRET}"',
            f"service={section[2]}",
        ]
    )
)


def check(content: bytes, *, secret: str = "\n") -> None:
    """`secret` is in no finding and no value."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "fuzz.cf").write_bytes(content)
        read, found = load_ldirectord(Path("fuzz.cf"), directory=Path(folder))
    assert (read is None) is any(finding.is_error for finding in found)
    for finding in found:
        line = str(finding)
        assert "\n" not in line and line.isprintable() and secret not in line
        assert len(line) < 900
    if read is None:
        return
    values = msgspec.json.encode(read.services)
    assert msgspec.json.decode(values, type=tuple[VirtualService, ...]) == read.services
    assert secret.encode() not in values and secret not in repr(read)
    assert len({service.key for service in read.services}) == len(read.services)
    names = {name for name, _ in read.secrets}
    for spec in (real.check for service in read.services for real in service.reals):
        assert spec is not None
        re.compile(spec.receive.encode())
        assert {spec.password, spec.secret} - {""} <= names


QUICK = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@QUICK
@given(st.lists(BYTES | LINES.map(lambda line: f"{line}\n".encode()), max_size=25).map(b"".join))
def test_any_bytes(content: bytes) -> None:
    check(content)


@pytest.mark.parametrize(
    "value", sorted({*VALUES, *SERVICES, " ", "a b", ",", "->", ":", "[]", "l:1", "0", "1" * 30, "\t"})
)
def test_every_directive_with_each_value(value: str) -> None:
    """In column 0, and each in a section of its own, of both families and of a mark."""
    lines = [f"{key}={value}" for key in DIRECTIVES]
    for number, key in enumerate(DIRECTIVES, 1):
        lines += [f"virtual=10.0.0.1:{number}", f"\t{key}={value}", f"virtual6=[fd00::1]:{number}", f"\t{key}={value}"]
        lines += [
            "\treal6=[fd00::2]:80 masq",
            f"virtual={number}",
            "\tchecktype=5",
            "\treal=10.0.0.3 masq",
            f"\t{key}={value}",
        ]
    lines += [f"virtual={value}", f"virtual6={value}"]
    check("".join(f"{line}\n" for line in lines if "fuzz.cf" not in line).encode())


@QUICK
@given(st.lists(SECTIONS, min_size=1, max_size=3))
def test_sections_of_any_directives(sections: list[str]) -> None:
    check(("\n\n".join(sections) + "\n").encode(), secret=SECRET)


@QUICK
@given(
    st.sampled_from(SOUND),
    st.lists(
        st.tuples(st.integers(0, 5000), st.integers(0, 12), BYTES | LINES.map(str.encode)), min_size=1, max_size=4
    ),
)
def test_sound_files_with_changes(content: bytes, changes: list[tuple[int, int, bytes]]) -> None:
    """At each place some bytes go and others come."""
    for place, gone, come in changes:
        at = place % (len(content) + 1)
        content = content[:at] + come + content[at + gone :]
    check(content.replace(b"/dev/", b"/"))


@pytest.mark.parametrize(
    "piece",
    [
        b"\n", b"x", b"x\n", b'"', b"#\n", b"\t", b"\t=\n", b"virtual=1.1.1.1:1\n", b"execute=a\n", b"\xff", b"\x00\n",
        b"\tx", b"virtual=7\n\treal=10.0.0.1->10.0.15.255 masq\n", b'virtual=7\n\treceive="(((((((((a*)*)*)*)*)"\n',
        b"fallback=[\n", b'=" ', b"#\"", b"virtual=7\n\tload=\"x\"\n\tservicename=y\n",
    ],
)  # fmt: skip
def test_large_files_of_one_piece(piece: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """128 KiB; memory stays within what the real servers and remarks that are kept may take."""
    monkeypatch.setattr(ldirectord_scope, "REALS_LIMIT", 5000)
    monkeypatch.setattr(findings, "FINDINGS_LIMIT", 100)
    tracemalloc.start()
    try:
        check(piece * (131_072 // len(piece)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 120_000_000


def test_remarks_stay_few() -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "fuzz.cf").write_text("".join(f"a{n}=\n" for n in range(100_000)))
        assert len(load_ldirectord(Path("fuzz.cf"), directory=Path(folder))[1]) <= FINDINGS_LIMIT + 1
