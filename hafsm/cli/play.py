"""`hafsm replay FILE --play`: the recorded cluster in the terminal, forwards and backwards."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hafsm.cli.progress import progress_bar
from hafsm.cli.render import wall_time
from hafsm.core.describe import describe
from hafsm.core.turn import seconds
from replay.film import Film, Frame

KEYS = "space pause · → ← one event · n p next, previous decision · + - speed · home end · q quit"
LONGEST_WAIT_S = 2.0
"""A quiet hour is not waited for."""
SPEED_STEP = 2.0
_ESCAPES = {"\x1b[C": "l", "\x1b[D": "h", "\x1b[H": "g", "\x1b[F": "G", "\x1b[1~": "g", "\x1b[4~": "G"}
_STYLES = {
    **dict.fromkeys(("active", "up", "here", "started"), "green"),
    **dict.fromkeys(("standby", "stopped"), "cyan"),
    **dict.fromkeys(("init", "quiesced", "starting", "stopping"), "yellow"),
    **dict.fromkeys(("dead", "down", "removed", "silent", "nobody", "failed"), "red"),
}


def play(files: Sequence[Path], speed: float) -> None:
    """Show the film until somebody quits; without a terminal, that is misuse.

    Raises what `replay.history.moments` raises.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("--play needs a terminal; without one, --until shows the state at a moment")
    with progress_bar("reading", files[0]) as tell:
        film = Film(files, tell)
    with suppress(KeyboardInterrupt):
        _Player(film, speed).run()


class _Player:
    def __init__(self, film: Film, speed: float) -> None:
        self._film = film
        self._speed = speed
        self._place = 0
        self._playing = True

    def run(self) -> None:
        console = Console(highlight=False)
        keys = _Keys()
        with keys.unseen(), Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(self._picture(console), refresh=True)
                key = keys.next(self._wait_s())
                if key in ("q", "\x03", "\x04"):
                    return
                self._press(key)

    def _wait_s(self) -> float | None:
        """Until the next event by the film's clock; None: until a key."""
        if not self._playing or self._place + 1 >= self._film.length:
            return None
        gap = self._film.frame(self._place + 1).at - self._film.frame(self._place).at
        return min(max(gap, 0) / 1e9 / self._speed, LONGEST_WAIT_S)

    def _press(self, key: str) -> None:
        film = self._film
        match key:
            case "":
                self._place = min(self._place + 1, film.length - 1)
                return
            case " ":
                self._playing = not self._playing
                return
            case "+":
                self._speed = min(self._speed * SPEED_STEP, 1000.0)
                return
            case "-":
                self._speed = max(self._speed / SPEED_STEP, 0.1)
                return
            case "l":
                self._place = min(self._place + 1, film.length - 1)
            case "h":
                self._place = max(self._place - 1, 0)
            case "n":
                self._place = film.next_decision(self._place)
            case "p":
                self._place = film.previous_decision(self._place)
            case "g":
                self._place = 0
            case "G":
                self._place = film.length - 1
            case _:
                return
        self._playing = False

    def _picture(self, console: Console) -> RenderableType:
        frame = self._film.frame(self._place)
        how = f"playing ×{self._speed:g}" if self._playing else "paused"
        head = f"{wall_time(frame.wall_ns)}  event {frame.seq} ({frame.kind})  {self._place + 1} of {self._film.length}"
        title = Text(f"{head}  {how}", style="bold")
        parts: list[RenderableType] = [title, Text(_bar(frame, self._film, console.width))]
        parts += picture(frame, console.height - 8)
        reason = frame.reason or self._film.reason_before(self._place)
        parts += [Text(), Text(reason, style="bold" if frame.reason else "dim"), Text(KEYS, style="dim")]
        return Group(*parts)


def _bar(frame: Frame, film: Film, width: int) -> str:
    filled = (frame.place + 1) * (width - 2) // film.length
    return "━" * filled + "─" * (width - 2 - filled)


def picture(frame: Frame, lines: int) -> list[RenderableType]:
    """Directors, links, ping nodes, VIPs and real servers as this director knew them; at most so many lines."""
    status = describe(frame.state, (), now=frame.state.now)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    rows: list[tuple[str, str, str, str]] = []
    for node in status["nodes"]:
        me = node["name"] == status["node"]
        about = f"holds {status['holds']}, phase {status['phase']}" if me else _heard(node["silent_s"])
        rows.append(("director", node["name"], node["state"], about))
    if frame.state.handover.value != "idle":
        rows.append(("hand-over", frame.state.handover_set.value, frame.state.handover.value, ""))
    for link in status["links"]:
        rows.append(("link", link["name"], "up" if link["up"] else "down", _heard(link["silent_s"])))
    for ping in status["pings"]:
        rows.append(("ping node", ping["name"], "answers" if ping["alive"] else "silent", _heard(ping["silent_s"])))
    for vip in status["vips"]:
        here = "in this kernel" if vip["here"] else ""
        rows.append(("VIP", vip["address"], vip["holder"] or "nobody", here))
    for service in status["services"]:
        for real in service["reals"]:
            weight = "not in this kernel" if real["weight"] is None else f"weight {real['weight']}"
            rows.append(("real server", real["real"], real["state"], f"{weight}; {real['detail']}".rstrip("; ")))
    for row in rows[: max(1, lines)]:
        what, name, state, about = row
        table.add_row(what, name, Text(state, style=_STYLES.get(state, "")), Text(about))
    more = len(rows) - max(1, lines)
    return [table, Text(f"… {more} more", style="dim")] if more > 0 else [table]


def _heard(silent_s: float | None) -> str:
    return "never heard" if silent_s is None else f"heard {seconds(int(silent_s * 1e9))} before"


class _Keys:
    """Keys one by one and unseen."""

    def __init__(self) -> None:
        self._descriptor = sys.stdin.fileno()
        self._typed = ""
        """Read and not yet given out: several keys may come at once."""

    @contextmanager
    def unseen(self) -> Iterator[None]:
        """Without echo and line editing; the terminal is put back whatever happens."""
        before = termios.tcgetattr(self._descriptor)
        tty.setcbreak(self._descriptor)
        try:
            yield
        finally:
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, before)

    def next(self, wait_s: float | None) -> str:
        """The next key within the time, as one letter; empty: none. End of input quits."""
        if not self._typed:
            ready, _, _ = select.select([self._descriptor], [], [], wait_s)
            if not ready:
                return ""
            self._typed = os.read(self._descriptor, 64).decode(errors="replace")
            if not self._typed:
                return "q"
        for escape, key in _ESCAPES.items():
            if self._typed.startswith(escape):
                self._typed = self._typed[len(escape) :]
                return key
        key, self._typed = self._typed[0], self._typed[1:]
        if key == "\x1b":
            self._typed = ""  # a key that means nothing here
        return key
