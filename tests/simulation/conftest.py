"""The scenario's files, as an administrator has them in /etc/ha.d."""

from pathlib import Path

import pytest

SCENARIO = Path(__file__).parents[1] / "unit_config" / "scenario"


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    directory = tmp_path / "ha.d"
    directory.mkdir()
    for name in ("ha.cf", "haresources", "authkeys", "ldirectord.cf"):
        (directory / name).write_bytes((SCENARIO / name).read_bytes())
    (directory / "authkeys").chmod(0o600)
    return directory
