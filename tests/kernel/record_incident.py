"""Record the incident of docs/incident.md again, on real kernels: `python -m tests.kernel.record_incident`.

A real server stops answering; while it is out, the active director loses its power; later both return. In
docs/incident/ night.db is what the survivor's journal held while the other one was dead; server19.db and server40.db
are both journals afterwards. `python -m tests.unit_report.incident_page` then writes the page's outputs anew.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.kernel.lab import ROOT, Lab
from tests.kernel.site import missing_prerequisite, wait_for
from tests.kernel.test_scenario import SETTLE_S, Story

FOLDER = ROOT / "docs" / "incident"
DEADTIME_S = 10
QUIET_S = 8
"""What is remarkable shall not be all that the lanes show."""
ONLY_41 = ["192.168.2.41:80 Route 1"]


def record(out: Path) -> None:
    """Play the incident; leaves NAME.db of each director in `out`."""
    lab = Lab()
    try:
        lab.boot()
        lab.restore()
        _play(Story(lab, out))
    finally:
        lab.close()


def _play(story: Story) -> None:
    lab = story.lab
    for director in lab.directors:
        director.install(ha_cf={"deadtime": str(DEADTIME_S)})
        story.start(director)
    story.settles(story.primary, story.backup)
    story.balanced(story.primary)

    time.sleep(QUIET_S)

    lab.server31.hang_httpd()
    wait_for(lambda: story.table(story.primary) == ONLY_41, SETTLE_S, "server31 out of the table")

    time.sleep(QUIET_S)

    story.primary.power_cut()
    story.settles(story.backup, None)
    wait_for(lambda: story.table(story.backup) == ONLY_41, SETTLE_S, "the survivor's table without server31")

    story.backup.hafsm("export", "--force", "/mnt/out/night.db")

    lab.server31.start_httpd()
    story.balanced(story.backup)

    lab.boot()
    story.start(story.primary)
    story.settles(story.primary, story.backup)
    story.balanced(story.primary)
    time.sleep(QUIET_S)
    for director in lab.directors:
        director.hafsm("export", "--force", f"/mnt/out/{director.name}.db")


def main() -> int:
    """0 recorded, 1 not possible here."""
    missing = missing_prerequisite()
    if missing:
        print(f"the incident cannot be recorded: real kernels: {missing}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="hafsm-incident-") as folder:
        record(Path(folder))
        FOLDER.mkdir(exist_ok=True)
        for file in sorted(Path(folder).glob("*.db")):
            shutil.copyfile(file, FOLDER / file.name)
            print(f"{FOLDER / file.name}: {file.stat().st_size // 1024} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
