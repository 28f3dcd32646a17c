"""Mail through the machine's own sendmail(8), which every mail system for Unix brings, or by SMTP to a named host.

Nothing here stops the loop: sendmail is a subprocess, SMTP runs in a thread of its own, and both have a deadline.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from pathlib import Path

from hafsm.core.actions import SendMail
from hafsm.core.events import Outcome
from hafsm.daemon.aside import Aside
from hafsm.daemon.scripts import Ended, execute, memory_file

FOLDERS = (Path("/usr/sbin"), Path("/usr/lib"))
"""Where sendmail is if it is not in PATH (Filesystem Hierarchy Standard, and its old place)."""
SMTP_PORT = 25
ANSWER_LIMIT_S = 20.0
"""For one answer of an SMTP server. The deadline of the whole mail does not wait for it; the thread does."""


async def send(action: SendMail) -> Ended:
    """Hand a mail over; what becomes of it later is in the mail system's log. A detail always says whom it was for."""
    whom = f"mail to {', '.join(action.to)}"
    ended = await (_by_smtp(action) if action.smtp else _by_sendmail(action))
    return ended if ended.outcome is Outcome.DONE else Ended(ended.outcome, f"{whom}: {ended.detail}")


async def _by_sendmail(action: SendMail) -> Ended:
    sendmail = shutil.which("sendmail", path=os.pathsep.join((os.environ.get("PATH", os.defpath), *map(str, FOLDERS))))
    if sendmail is None:
        return Ended(Outcome.FAILED, "there is no sendmail on this machine")
    letter = await asyncio.to_thread(written, action)
    # -i: a line with a single dot does not end the letter.
    with memory_file(letter) as text:
        ended, _ = await execute([sendmail, "-i", *action.to], action.timeout_ns / 1e9, stdin=text)
    return ended


async def _by_smtp(action: SendMail) -> Ended:
    """A thread for each: a mail server that hangs keeps only its own mail waiting."""
    timeout_s = action.timeout_ns / 1e9
    thread = Aside(f"mail {action.id}", waiting_max=1)
    try:
        refused = await asyncio.wait_for(thread.call(lambda: _speak(action)), timeout_s)
    except TimeoutError:
        return Ended(Outcome.TIMED_OUT, f"no end within {timeout_s:g} s at {action.smtp}")
    except OSError as error:  # smtplib's own errors are OSErrors too
        return Ended(Outcome.FAILED, f"{action.smtp}: {error}")
    if refused:
        return Ended(Outcome.FAILED, f"{action.smtp} refused {', '.join(refused)}")
    return Ended(Outcome.DONE, "")


def _speak(action: SendMail) -> tuple[str, ...]:
    """Blocks. One RCPT for each recipient; returns those that were refused, unless all were. Raises OSError."""
    import smtplib  # imported late, as most directors never send a mail

    sender = action.sender or f"hafsm@{socket.gethostname()}"
    with smtplib.SMTP(action.smtp, SMTP_PORT, timeout=ANSWER_LIMIT_S) as server:
        refused = server.sendmail(_address(sender), list(action.to), written(action, sender=sender))
    return tuple(f"{recipient} ({code})" for recipient, (code, _) in sorted(refused.items()))


def _address(sender: str) -> str:
    """`ops@example.com` of `Director <ops@example.com>`: what MAIL FROM takes."""
    from email.utils import parseaddr

    return parseaddr(sender)[1] or sender


def written(action: SendMail, *, sender: str = "") -> bytes:
    """The letter with its headers. By sendmail, sender (unless given), date and id are the mail system's business."""
    from email.message import EmailMessage  # imported late: it takes 30 ms
    from email.policy import SMTP
    from email.utils import formatdate, make_msgid

    letter = EmailMessage()
    letter["To"] = ", ".join(action.to)
    letter["Subject"] = action.subject
    letter["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answers from machines on holiday
    letter.set_content(action.text)
    if not action.smtp:
        if action.sender:
            letter["From"] = action.sender
        return letter.as_bytes()
    letter["From"] = sender
    letter["Date"] = formatdate(localtime=True)
    letter["Message-ID"] = make_msgid()
    return letter.as_bytes(policy=SMTP)
