"""docs/configuration.md names every directive and every key, with the defaults that the code has."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from hafsm.config import ha_cf
from hafsm.config.ldirectord_check import USERS
from hafsm.config.ldirectord_directives import DIRECTIVES, KNOWN, PORT_SERVICES, SERVICES, reference
from hafsm.config.settings_file import ROWS, TABLES, TOP, load_settings_file

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text()
(TOML,) = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)


def part(title: str) -> str:
    return DOCUMENT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def codes(text: str) -> set[str]:
    """The first word of everything in back quotes, and of each of `a=…`."""
    return {re.split(r"[ =]", code)[0] for code in re.findall(r"`([^`]+)`", text)}


def test_directives_of_ha_cf() -> None:
    assert ha_cf.DIRECTIVES - codes(part("ha.cf")) == set()


def test_directives_of_ldirectord_cf() -> None:
    """The parser's own table is the document's, line by line."""
    table = "\n".join(reference())
    assert table in part("ldirectord.cf"), f"docs/configuration.md should show:\n{table}"
    assert KNOWN - codes(part("ldirectord.cf")) == set()


def test_services_and_what_they_use() -> None:
    """Ports and directives of each service, as the parser has them."""
    shown: dict[str, tuple[str, set[str]]] = {}
    for names, ports, uses in re.findall(
        r"(?m)^\| ([a-z_, ]+) \| ([0-9, ]*) ?\| (.*) ?\|$", part("ldirectord.cf").split("| service |")[1]
    ):
        numbers = ports.split(", ") if ports else [""] * len(names.split(", "))
        for name, number in zip(names.split(", "), numbers, strict=True):
            shown[name] = (number.strip(), set(USERS) & set(re.findall(r"\w+", re.sub(r"\([^)]*\)|;.*", "", uses))))
    ports_of = {service: str(number) for number, service in PORT_SERVICES.items()}
    assert shown == {
        name: (ports_of.get(name, ""), {key for key, users in USERS.items() if name in users} - {"checkport"})
        for name in SERVICES
        if name != "none"
    }


def test_the_sheet_of_directives() -> None:
    """Their number by scope, as ldirectord 1.186 has them: 23 global, 38 of sections, 14 both."""
    scopes = [entry.where for entry in DIRECTIVES.values()]
    assert (len(scopes), scopes.count("G"), scopes.count("S"), scopes.count("G S")) == (47, 9, 24, 14)


def test_the_toml_block_shows_the_defaults(tmp_path: Path) -> None:
    shown, empty = tmp_path / "shown.toml", tmp_path / "empty.toml"
    shown.write_text(TOML)
    empty.write_text("")
    assert load_settings_file(shown) == load_settings_file(empty)


def test_the_toml_block_shows_every_key() -> None:
    found = tomllib.loads(re.sub(r"(?m)^# (?=\w+ = |\[\[)", "", TOML))
    rows = {name: found[name.split(".")[0]].pop(name.split(".")[1]) for name in ROWS}
    assert {name: set(row[0]) for name, row in rows.items()} == {name: set(keys) for name, keys in ROWS.items()}
    assert {key for key in found if not isinstance(found[key], dict)} == set(TOP)
    assert {table: set(found[table]) for table in TABLES} == {table: set(keys) for table, keys in TABLES.items()}
