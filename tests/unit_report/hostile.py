"""What an attacker would write into a journal: by an operator's name, a real server's answer, a host's name."""

from __future__ import annotations

from pathlib import Path

from hafsm.core import events as ev
from tests.unit_core.pair import Pair
from tests.unit_replay.incidents import checks, quiet, save

PLANTED = "</title></style></script><script>document.documentElement.dataset.owned='yes'</script>"
IMAGE = "<img src=x onerror=\"document.documentElement.dataset.owned='yes'\"><svg/onload=alert(1)>"
LINK = "javascript:document.documentElement.dataset.owned='yes'"
ATTRIBUTE = "\" onmouseover=\"document.documentElement.dataset.owned='yes'\" x='"
COMMENT = "<!--<script>"
REVERSED = "safe\u202egnp.exe\x1b[31m\x00"
ALL = (PLANTED, IMAGE, LINK, ATTRIBUTE, COMMENT, REVERSED)


def incident() -> Pair:
    """Every text that comes from outside is hostile."""
    pair = quiet()
    for words in ALL:
        for machine in (pair.a, pair.b):
            results = tuple(
                ev.CheckResult(check=index, ok=False, detail=words, duration_us=400)
                for index in range(len(machine.state.checks))
            )
            machine.fold(ev.ChecksReported(at=pair.now, plan=machine.state.checks_plan, results=results))
            machine.fold(ev.LinkChanged(at=pair.now, link=0, working=False, detail=words))
            machine.fold(ev.JournalTroubled(at=pair.now, detail=words))
            machine.fold(ev.CheckerLost(at=pair.now, worker=0, detail=words))
        checks(pair, 5)
        pair.a.fold(ev.StandbyRequested(at=pair.now, hold="all", by=words))
        pair.run(5_000_000_000)
    pair.a.fold(ev.StopRequested(at=pair.now, by=PLANTED))
    pair.run(5_000_000_000)
    return pair


def journals(folder: Path) -> tuple[Path, Path]:
    saved = save(incident(), folder)
    return saved.a, saved.b
