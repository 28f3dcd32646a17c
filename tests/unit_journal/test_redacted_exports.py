"""`--redact-addresses`: no address and no name of the site is left, and everything else is as it was."""

from __future__ import annotations

import ipaddress
import json
import re
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from hafsm import codec
from hafsm.cli.main import main
from hafsm.cli.redacting import redact_addresses
from hafsm.config.pseudonyms import Pseudonyms
from hafsm.core.settings import SECOND
from journal.export import export
from journal.reader import Journal
from journal.records import ActionRecord, EventRecord
from replay.engine import replay
from tests.unit_core.pair import Pair, ev
from tests.unit_replay.recording import record

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

SITE = ("192.168.2.", "server19", "server40", "alice", "secret-shop")
"""What the scripted pair's configuration and the events below give away."""


def incident(folder: Path, **recording: object) -> Path:
    pair = Pair().start()
    pair.a.report_checks(a31=True, a41=True)
    pair.run(12 * SECOND)
    pair.a.fold(ev.ReloadRefused(at=pair.now, detail="secret-shop.example.com (192.168.2.99) does not resolve"))
    pair.a.report_checks(a31=False)
    pair.run(5 * SECOND)
    pair.a.fold(ev.StandbyRequested(at=pair.now, hold="all", by="alice"))
    pair.run(20 * SECOND)
    pair.a.power_cut()
    pair.run(40 * SECOND)
    pair.a.start()
    pair.until(pair.settled)
    record(folder, pair.a, snapshots=9, **recording)  # type: ignore[arg-type]
    return folder


def test_it_replays_as_identical_and_gives_nothing_away(tmp_path: Path) -> None:
    folder = incident(tmp_path / "j")
    plain, redacted = tmp_path / "plain.db", tmp_path / "redacted.db"
    words = ["export", "--journal", str(folder)]
    assert CliRunner().invoke(main, [*words, str(plain)]).exit_code == 0
    answer = CliRunner().invoke(main, [*words, "--redact-addresses", str(redacted)])
    assert answer.exit_code == 0, answer.output
    before, after = replay(plain), replay(redacted)
    assert after.identical, after.difference
    assert after[1:9] == before[1:9], "events, actions, lives, snapshots: the same numbers"
    assert any(word in everything(plain) for word in SITE)
    for word in SITE:
        assert word not in everything(redacted), word
    assert CliRunner().invoke(main, ["journal", "verify", str(redacted)]).exit_code == 0


def everything(path: Path) -> str:
    with sqlite3.connect(path) as connection:
        text = "\n".join(line for line in connection.iterdump() if line.startswith("INSERT"))
    connection.close()
    return text


def test_kinds_numbers_times_and_structure_stay(tmp_path: Path) -> None:
    folder = incident(tmp_path / "j")
    export(folder, tmp_path / "plain.db")
    export(folder, tmp_path / "redacted.db", rewrite=redact_addresses)
    with Journal(tmp_path / "plain.db") as plain, Journal(tmp_path / "redacted.db") as redacted:
        for (event, actions), (again, acts) in zip(plain.scan(), redacted.scan(), strict=True):
            assert event._replace(payload="", reason="") == again._replace(payload="", reason="")
            assert [(a.id, a.kind) for a in actions] == [(a.id, a.kind) for a in acts]
            assert bool(event.reason) == bool(again.reason)
            assert re.sub(r"[\w.-]+", "", event.reason) == re.sub(r"[\w.-]+", "", again.reason)
        for snapshot in redacted.snapshots():
            assert codec.digest_text(snapshot.state) == snapshot.digest
        addresses = {
            json.loads(s.state)["settings"]["services"][0]["reals"][0]["address"] for s in redacted.snapshots()
        }
    (address,) = addresses
    assert ipaddress.ip_address(address) in ipaddress.ip_network("198.18.0.0/15")


def test_a_decision_that_was_another_one_stays_different(tmp_path: Path) -> None:
    """What somebody exports to show a bug still shows it."""
    changed: list[int] = []

    def change(event: EventRecord, actions: list[ActionRecord]) -> tuple[EventRecord, list[ActionRecord]]:
        if "is removed" in event.reason and not changed:
            changed.append(event.seq)
            return event._replace(reason=event.reason + "; 192.168.2.99 of server19 said so"), actions
        return event, actions

    folder = incident(tmp_path / "j", change=change)
    export(folder, tmp_path / "redacted.db", rewrite=redact_addresses)
    difference = replay(tmp_path / "redacted.db").difference
    assert difference is not None and difference.seq == changed[0]
    (field,) = difference.fields
    assert field.name == "reason" and re.search(r"; 198\.18\.0\.\d+ of node-\d said so$", field.recorded)
    assert not any(word in everything(tmp_path / "redacted.db") for word in SITE)


def test_the_configuration_loses_its_comments(tmp_path: Path) -> None:
    text = '# Acme\'s shop\nnode server40 # in rack 7\nping 192.168.2.1\nrequest="/a#b"\nservername=www.acme.example\n'
    pseudonyms = Pseudonyms()
    pseudonyms.name("node", "server40")
    assert pseudonyms.configuration(text) == (
        '#\nnode node-1 #\nping 198.18.0.1\nrequest="/a#b"\nservername=host-1.example\n'
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.7", "198.18.0.1"),
        ("192.0.2.7:80 and 192.0.2.7", "198.18.0.1:80 and 198.18.0.1"),
        ("IPaddr::192.0.2.7/24/eth0:0", "IPaddr::198.18.0.1/24/eth0:0"),
        ("IPv6addr::2001:db8:5::7/64", "IPv6addr::2001:db8:0:1::1/64"),
        ("tcp:[2001:db8:5::7]:80", "tcp:[2001:db8:0:1::1]:80"),
        ("tcp:192.0.2.7:80 is up.", "tcp:198.18.0.1:80 is up."),
        ("no route to fe80::1%eth0: down", "no route to fe80::1%eth0: down"),
        ("2001:db8:5::7: refused", "2001:db8:0:1::1: refused"),
        ("192.0.2.255 192.0.2.0 255.255.255.0", "198.18.0.255 198.18.0.0 255.255.255.0"),
        ("127.0.0.1 ::1 :: 0.0.0.0 224.0.0.18 ff02::1", "127.0.0.1 ::1 :: 0.0.0.0 224.0.0.18 ff02::1"),
        ("at 12:30:45 hafsm 0.1.0 took 3.5 ms, 999.1.1.1", "at 12:30:45 hafsm 0.1.0 took 3.5 ms, 999.1.1.1"),
        ("http://www.acme.example:8080/x/index.html", "http://host-1.example:8080/x/index.html"),
        ("mail ops@acme.example, ops@acme.example", "mail mail-1@example, mail-1@example"),
        ("52:54:00:12:34:56", "02:00:00:00:00:01"),
        ("director-a and director-ab, Director-A.", "node-1 and director-ab, node-1."),
        ("director-a.acme.example", "host-1.example"),
        ("1 sha1 sha256:55f7d7be51e1", "1 sha1 secret-1"),
    ],
)
def test_what_is_replaced_in_text(text: str, expected: str) -> None:
    pseudonyms = Pseudonyms()
    pseudonyms.name("node", "director-a")
    assert pseudonyms.text(text) == expected
    assert pseudonyms.text(text) == expected, "the same for the same"


def test_a_word_of_the_protocol_is_no_name_in_text() -> None:
    """A node may be called as it likes; the state machines' words stay what they are."""
    pseudonyms = Pseudonyms({"active"})
    assert pseudonyms.name("node", "active") == "node-1"
    assert pseudonyms.text("heard active (status active)") == "heard active (status active)"


LINK_LOCAL = st.ip_addresses(network="fe80::/10")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.ip_addresses(v=4) | st.ip_addresses(v=6) | LINK_LOCAL, min_size=1, max_size=60, unique=True))
def test_addresses_keep_family_and_never_collide(addresses: list[Address]) -> None:
    pseudonyms = Pseudonyms()
    replaced = [pseudonyms.name("host", str(address)) for address in addresses]
    assert len(set(replaced)) == len(replaced)
    for address, text in zip(addresses, replaced, strict=True):
        assert ipaddress.ip_address(text).version == address.version
        assert str(ipaddress.ip_address(text)) == text, "canonical"
        assert pseudonyms.text(f"({address})") == f"({text})"
    for network in {address.packed[:3] for address in addresses if address.version == 4}:
        inside = [t for a, t in zip(addresses, replaced, strict=True) if a.version == 4 and a.packed[:3] == network]
        assert len({text.rpartition(".")[0] for text in inside}) == 1, "one /24 stays one"
