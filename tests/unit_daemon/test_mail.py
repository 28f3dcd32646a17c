"""Mail through a sendmail that is really run."""

from __future__ import annotations

from email import message_from_bytes, policy
from pathlib import Path

import pytest

from hafsm.core.actions import SendMail
from hafsm.core.events import Outcome
from hafsm.daemon import mail

ACTION = SendMail(
    id=7,
    to=("root", "ops@example.com"),
    subject="Wächter: group web starts on a",
    text="ein\n.\nEnde ö\n",
    timeout_ns=10**10,
)


@pytest.fixture
def sendmail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sendmail that keeps what it is given, and then does what the file `then` says."""
    program = tmp_path / "sendmail"
    program.write_text('#!/bin/sh\nfor word; do echo "$word"; done > "$0.words"\ncat > "$0.letter"\n. "$0.then"\n')
    program.chmod(0o755)
    (tmp_path / "sendmail.then").write_text("")
    monkeypatch.setattr(mail, "FOLDERS", ())
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return program


async def test_a_mail_is_handed_over_whole(sendmail: Path) -> None:
    assert await mail.send(ACTION) == (Outcome.DONE, "")
    assert sendmail.with_suffix(".words").read_text() == "-i\nroot\nops@example.com\n"
    letter = message_from_bytes(sendmail.with_suffix(".letter").read_bytes(), policy=policy.default)
    assert letter["To"] == "root, ops@example.com"
    assert letter["Subject"] == ACTION.subject
    assert letter["Auto-Submitted"] == "auto-generated"
    assert letter.get_content() == ACTION.text


async def test_a_failure_says_for_whom_and_why(sendmail: Path) -> None:
    sendmail.with_suffix(".then").write_text("echo 'queue is full' >&2; exit 75\n")
    assert await mail.send(ACTION) == (Outcome.FAILED, "mail to root, ops@example.com: exit 75: queue is full")


async def test_a_sendmail_that_hangs_is_ended(sendmail: Path) -> None:
    sendmail.with_suffix(".then").write_text("sleep 60\n")
    hasty = SendMail(id=7, to=ACTION.to, subject="", text="", timeout_ns=300_000_000)
    assert await mail.send(hasty) == (
        Outcome.TIMED_OUT,
        "mail to root, ops@example.com: no end within 0.3 s, killed",
    )


async def test_without_sendmail_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "FOLDERS", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    assert await mail.send(ACTION) == (
        Outcome.FAILED,
        "mail to root, ops@example.com: there is no sendmail on this machine",
    )
