"""Mail through a sendmail that is really run, and to an SMTP server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from email import message_from_bytes, message_from_string, policy
from pathlib import Path

import pytest
from msgspec.structs import replace

from hafsm.core.actions import SendMail
from hafsm.core.events import Outcome
from hafsm.daemon import mail
from tests.unit_daemon.smtp_server import SmtpServer

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


# ---- by SMTP


@pytest.fixture
def smtp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., SmtpServer]]:
    servers: list[SmtpServer] = []

    def start(answers: dict[str, str] | None = None, *, silent: bool = False) -> SmtpServer:
        servers.append(SmtpServer(answers, silent=silent))
        monkeypatch.setattr(mail, "SMTP_PORT", servers[-1].port)
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def by_smtp(**changes: object) -> SendMail:
    return replace(ACTION, smtp="127.0.0.1", sender="Director <ld@example.com>", **changes)


async def test_each_recipient_is_a_recipient_of_its_own(smtp: Callable[..., SmtpServer]) -> None:
    server = smtp()
    assert await mail.send(by_smtp()) == (Outcome.DONE, "")
    commands = [line.partition(" size=")[0] for line in server.lines if line[:4] in ("mail", "rcpt")]
    assert commands == ["mail FROM:<ld@example.com>", "rcpt TO:<root>", "rcpt TO:<ops@example.com>"]
    letter = message_from_string(server.letters[0], policy=policy.default)
    assert letter["From"] == "Director <ld@example.com>" and letter["To"] == "root, ops@example.com"
    assert letter["Date"] and letter["Message-ID"] and letter["Subject"] == ACTION.subject
    assert "ein\n..\nEnde" in server.letters[0] or letter.get_content() == ACTION.text


async def test_one_refused_recipient_does_not_cost_the_others_their_mail(smtp: Callable[..., SmtpServer]) -> None:
    server = smtp({"rcpt TO:<root>": "550 nobody here"})
    detail = "mail to root, ops@example.com: 127.0.0.1 refused root (550)"
    assert await mail.send(by_smtp()) == (Outcome.FAILED, detail)
    assert len(server.letters) == 1


async def test_an_smtp_server_that_says_nothing_is_given_up(smtp: Callable[..., SmtpServer]) -> None:
    smtp(silent=True)
    outcome, detail = await mail.send(by_smtp(timeout_ns=300_000_000))
    assert outcome is Outcome.TIMED_OUT and "127.0.0.1" in detail


async def test_no_smtp_server_is_said(smtp: Callable[..., SmtpServer]) -> None:
    smtp().close()
    outcome, detail = await mail.send(by_smtp())
    assert outcome is Outcome.FAILED and "127.0.0.1: " in detail and "refused" in detail


async def test_a_sender_is_handed_to_sendmail_too(sendmail: Path) -> None:
    assert await mail.send(replace(ACTION, sender="ld@example.com")) == (Outcome.DONE, "")
    letter = message_from_bytes(sendmail.with_suffix(".letter").read_bytes(), policy=policy.default)
    assert letter["From"] == "ld@example.com"
