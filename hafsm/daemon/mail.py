"""Mail through the machine's own sendmail(8), which every mail system for Unix brings; hafsm speaks no SMTP."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

from hafsm.core.actions import SendMail
from hafsm.core.events import Outcome
from hafsm.daemon.scripts import Ended, execute, memory_file

FOLDERS = (Path("/usr/sbin"), Path("/usr/lib"))
"""Where sendmail is if it is not in PATH (Filesystem Hierarchy Standard, and its old place)."""


async def send(action: SendMail) -> Ended:
    """Hand a mail over; what becomes of it later is in the mail system's log. A detail always says whom it was for."""
    whom = f"mail to {', '.join(action.to)}"
    sendmail = shutil.which("sendmail", path=os.pathsep.join((os.environ.get("PATH", os.defpath), *map(str, FOLDERS))))
    if sendmail is None:
        return Ended(Outcome.FAILED, f"{whom}: there is no sendmail on this machine")
    letter = await asyncio.to_thread(written, action)
    # -i: a line with a single dot does not end the letter.
    with memory_file(letter.encode()) as text:
        ended, _ = await execute([sendmail, "-i", *action.to], action.timeout_ns / 1e9, stdin=text)
    return ended if ended.outcome is Outcome.DONE else Ended(ended.outcome, f"{whom}: {ended.detail}")


def written(action: SendMail) -> str:
    """The letter with its headers. Sender, date and id are the mail system's business."""
    from email.message import EmailMessage  # imported late: it takes 30 ms, and most directors never send a mail

    letter = EmailMessage()
    letter["To"] = ", ".join(action.to)
    letter["Subject"] = action.subject
    letter["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answers from machines on holiday
    letter.set_content(action.text)
    return letter.as_string()
