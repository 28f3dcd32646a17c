"""No key and no password leaves the model by accident."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import msgspec
import pytest

from hafsm.config.load import load
from hafsm.config.model import Secret, secret_digest
from tests.unit_config.config_support import NODE


def test_text_for_the_journal(directory: Path) -> None:
    (directory / "authkeys").write_bytes(
        b"# was 1 sha1 OldKey\nauth 2\n1 crc\n2 sha1 Key\xffWord more words\n#3 md5 Commented\n"
    )
    with (directory / "ldirectord.cf").open("a") as file:
        file.write('#\tlogin="Lucy"\n#\tpasswd = "Pass Word"\n#\trequest="http://Uma:Pw@web/x"\n')
    with (directory / "ha.cf").open("a") as file:
        file.write("#stonith_host * baytech 10.0.0.3 mylogin mysecret\n")
    configuration = load(directory, me=NODE).configuration
    assert configuration is not None
    text = configuration.text_without_secrets()
    for secret in ("OldKey", "Key\\", "Word", "Commented", "Lucy", "Pass", "Uma", "Pw@", "mylogin", "mysecret"):
        assert secret not in text
        assert secret not in repr(configuration)
    lines = text.split("\n")
    assert "2 sha1 " + secret_digest(b"Key\xffWord more words") in lines
    assert "1 crc" in lines
    assert "#stonith baytech /etc/ha.d/conf/stonith.baytech" in lines
    assert any(line.startswith("#stonith_host * baytech sha256:") for line in lines)
    assert any(line.startswith("#\tpasswd = sha256:") for line in lines)
    assert any(line.startswith('#\trequest="http://sha256:') and line.endswith('@web/x"') for line in lines)
    assert msgspec.json.decode(msgspec.json.encode(text)) == text
    assert configuration.keys.keys[1].secret.reveal() == b"Key\xffWord"


def test_digest_follows_the_text(directory: Path) -> None:
    def digest() -> str:
        configuration = load(directory, me=NODE).configuration
        assert configuration is not None
        return configuration.digest()

    first = digest()
    assert first == digest()
    (directory / "authkeys").write_text("auth 1\n1 sha1 AnotherKey\n")
    assert digest() != first


def test_a_secret_shows_its_digest_only() -> None:
    secret = Secret(b"LabSecretKey")
    shown = "Secret(sha256:df799f449613)"
    assert (repr(secret), str(secret), f"{secret}", secret.reveal()) == (shown, shown, shown, b"LabSecretKey")
    assert secret == Secret(b"LabSecretKey") != Secret(b"x")
    with pytest.raises(TypeError):
        msgspec.json.encode(secret)
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        copy.copy(secret)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("authkeys", "Hush sha1 Hush"),
        ("authkeys", "1 Hush"),
        ("authkeys", "16 sha1 Hush"),
        ("authkeys", "authHush"),
        ("authkeys", "2 crc Hush"),
        ("authkeys", "2 sha1 a Hush"),
        ("ldirectord.cf", 'passwd="Hush"'),
        ("ldirectord.cf", 'passwd "Hush"'),
        ("ldirectord.cf", 'virtual=10.0.0.1:80\n\treal=10.0.0.2:80 gate\n\trequest="http://u:Hush@a/"'),
        ("ha.cf", "stonith_host * fence_ipmilan ip=10.0.0.3 Hush"),
        ("ha.cf", "stonith baytech 10.0.0.3 me Hush"),
    ],
)
def test_no_finding_repeats_a_secret(directory: Path, name: str, line: str) -> None:
    with (directory / name).open("a") as file:
        file.write(line + "\n")
    findings = load(directory, me=NODE).findings
    assert findings
    assert not [str(f) for f in findings if "Hush" in str(f)]
