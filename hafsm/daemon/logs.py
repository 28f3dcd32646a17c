"""Where log lines go: stderr (journald), and what ha.cf names with logfile, debugfile and logfacility."""

from __future__ import annotations

import logging
import logging.handlers
import sys
from pathlib import Path

_LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def set_up(level: str, *, logfile: str | None, debugfile: str | None, facility: str | None) -> None:
    """A file that cannot be opened is said on stderr and costs nothing else."""
    root = logging.getLogger()
    root.setLevel(logging.DEBUG if debugfile else level.upper())
    root.handlers.clear()
    stderr = logging.StreamHandler(sys.stderr)
    stderr.setLevel(level.upper())
    stderr.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    root.addHandler(stderr)
    for path, threshold in ((logfile, logging.INFO), (debugfile, logging.DEBUG)):
        if path:
            _add_file(root, Path(path), threshold)
    if facility and facility != "none":
        _add_syslog(root, facility)
    for library in ("asyncio", "pyroute2", "transitions", "aiohttp"):
        logging.getLogger(library).setLevel(logging.WARNING)


def _add_file(root: logging.Logger, path: Path, threshold: int) -> None:
    try:
        handler = logging.handlers.WatchedFileHandler(path)
    except OSError as error:
        root.warning("log file %s: %s", path, error.strerror)
        return
    handler.setLevel(threshold)
    handler.setFormatter(logging.Formatter(_LINE))
    root.addHandler(handler)


def _add_syslog(root: logging.Logger, facility: str) -> None:
    if not Path("/dev/log").exists():
        return
    try:
        handler = logging.handlers.SysLogHandler("/dev/log", facility=facility)
    except (OSError, ValueError) as error:
        root.warning("syslog facility %s: %s", facility, error)
        return
    handler.ident = "hafsm: "
    handler.setLevel(logging.INFO)
    root.addHandler(handler)
