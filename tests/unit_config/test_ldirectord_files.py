"""Whole files as people have them: what each means and what is remarked, beside it in a .txt.

After a change that is meant, write the expectations again with `HAFSM_REWRITE=1 pytest …` and read the difference.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hafsm.cli.show_services import check
from hafsm.config.load import load_ldirectord
from hafsm.core.settings import MailPhase, VirtualService

FILES = sorted((Path(__file__).parent / "ldirectord_files").glob("*.cf"))


def shown(service: VirtualService) -> Iterator[str]:
    """Key and what is not the default, then a line for each server."""
    defaults = VirtualService(protocol="tcp", address="", port=0)
    differs = [
        f"{name}={getattr(service, name)}"
        for name in service.__struct_fields__[4:]
        if name not in ("reals", "fallback", "alert") and getattr(service, name) != getattr(defaults, name)
    ]
    yield " ".join([service.key, *differs])
    if alert := service.alert:
        phases = "" if alert.phases == tuple(MailPhase) else f" while {[phase.value for phase in alert.phases]}"
        yield f"  mail to {' '.join(alert.to)} again after {alert.again_ns // 10**9} s{phases} smtp={alert.smtp!r}"
    for real in service.reals:
        limits = f" l:{real.lower_threshold} u:{real.upper_threshold}" if real.upper_threshold else ""
        yield f"  {real.key} {real.forwarding.value} {real.weight}{limits}: {check(real)}"
    if service.fallback:
        yield f"  {service.fallback.key} {service.fallback.forwarding.value} fallback"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTNAME", "director.example")
    read, findings = load_ldirectord(file, directory=file.parent)
    assert read is not None, [str(finding) for finding in findings]
    lines = [f"{finding.level} {finding}".replace(f"{file.parent}/", "") for finding in findings]
    lines += [
        f"{name}={value}" for name, value in (("autoreload", read.autoreload), ("callback", read.callback)) if value
    ]
    lines += [line for service in read.services for line in shown(service)]
    found = "".join(f"{line}\n" for line in lines)
    assert "Hush" not in found
    expected = file.with_suffix(".txt")
    if os.environ.get("HAFSM_REWRITE"):
        expected.write_text(found)
    assert found == expected.read_text()


def test_there_are_files() -> None:
    assert len(FILES) >= 12
