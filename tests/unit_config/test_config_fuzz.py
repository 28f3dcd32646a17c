"""Whatever stands in the files: findings, never an exception; and errors, and only errors, withhold the result."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hafsm.config import ha_cf
from hafsm.config.ldirectord_directives import KNOWN
from hafsm.config.load import load, load_ldirectord
from hafsm.config.settings_file import TABLES, TOP, load_settings_file
from hafsm.core.settings import Settings
from hafsm.errors import ConfigError
from tests.unit_config.config_support import FILES, NODE, SCENARIO, describe

WORDS = sorted(
    ha_cf.DIRECTIVES
    | KNOWN
    | {"IPaddr::10.0.0.1/24/eth0:0", "ldirectord", "auth", "1", "sha1", "crc", "server40.example.com"}
)
SIGNS = ("\n", "\n\t", "\n    ", "=", " ", "\t", "#", '"', ",", ":", "::", "/", "\\\n", "->", "\r\n", "\x00", "[", "]")
VALUES_OF_FILES = (
    *("10.0.0.1", "10.0.0.1:80", "gate", "masq", "yes", "no", "web1.example"),
    *("[::1]:80", "65536", "-1", "1.5", "200ms"),
    *("ldirectord::" + "x" * 300, "ldirectord::/proc/self/mem", "ldirectord::../haresources"),
    *("http://", "@", "(?P<", "[[:alpha:]]", "(" * 5000, "9" * 5000),
    *("a{99999999999}", "l:5", "u:9", "²", "é", "\u2028"),
)
PIECES = st.sampled_from([*WORDS, *SIGNS, *VALUES_OF_FILES])
CONTENTS = st.binary(max_size=300) | st.lists(PIECES, max_size=40).map(lambda pieces: "".join(pieces).encode())
INSERTS = st.tuples(st.integers(0, 600), CONTENTS)


def write(directory: Path, name: str, content: bytes) -> None:
    for file in FILES:
        (directory / file).write_bytes(content if file == name else (SCENARIO / file).read_bytes())
    (directory / "authkeys").chmod(0o600)


def check(directory: Path) -> None:
    loaded = load(directory, me=NODE)
    for line in describe(loaded, directory):
        assert "\n" not in line and line.isprintable()
        assert len(line) < 600
    if loaded.settings is not None and loaded.configuration is not None:
        assert msgspec.json.decode(msgspec.json.encode(loaded.settings), type=Settings) == loaded.settings
        assert msgspec.json.encode(loaded.configuration.text_without_secrets())


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(content=CONTENTS)
def test_any_content(name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), name, content)
        check(Path(folder))
        load_ldirectord(Path(name), directory=Path(folder))


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(insert=INSERTS)
def test_a_sound_file_with_anything_inserted(name: str, insert: tuple[int, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sound = (SCENARIO / name).read_bytes()
        at = insert[0] % (len(sound) + 1)
        write(Path(folder), name, sound[:at] + insert[1] + sound[at:])
        check(Path(folder))


KEYS = [*TOP, *(f"{table}.{key}" for table, keys in TABLES.items() for key in keys), *TABLES, "nonsense", "journal.x"]
VALUES = st.sampled_from(
    ['""', '"/x"', '"1GiB"', "1", "0", "-1", "1.5", "true", "[]", '["/a"]', "{}", "1979-05-27", '"memory"', '"\\u0000"']
)


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=200)
    | st.lists(st.tuples(st.sampled_from(KEYS), VALUES), max_size=6).map(
        lambda pairs: "".join(f"{key} = {value}\n" for key, value in pairs).encode()
    )
)
def test_any_settings_file(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "hafsm.toml")
        path.write_bytes(content)
        try:
            load_settings_file(path)
        except ConfigError as error:
            assert error.file == str(path) and error.expected
