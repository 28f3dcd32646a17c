"""`hafsm replay --play`: every frame is the folded state, and the keys move through them in a real terminal."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console, Group

from hafsm.cli.main import main
from hafsm.cli.play import picture
from replay.film import Film
from replay.history import Moment, files_of, moments
from tests.unit_replay.incidents import Incident

Recorded = Callable[[str], Incident]
PATIENCE_S = 60.0


@pytest.fixture
def film(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> Film:
    monkeypatch.setattr("replay.film.KEPT_EVERY", 16)
    return Film(files_of(recorded("power_cut_and_back").a))


def test_every_frame_is_the_folded_state_in_any_order(film: Film, recorded: Recorded) -> None:
    """Two lives, and a kept state every 16 events: forwards, backwards and by leaps."""
    folded = [m for m in moments(files_of(recorded("power_cut_and_back").a)) if isinstance(m, Moment)]
    assert film.length == len(folded) > 64
    places = [*range(film.length), *reversed(range(film.length)), *range(0, film.length, 17)]
    for place in places:
        frame = film.frame(place)
        assert (frame.place, frame.seq, frame.reason) == (place, folded[place].seq, folded[place].reason)
        assert frame.state == folded[place].after


def test_decisions_are_found_both_ways(film: Film) -> None:
    first, second = film.decisions[:2]
    assert film.next_decision(first) == second and film.previous_decision(second) == first
    assert film.previous_decision(first) == 0
    assert film.next_decision(film.decisions[-1]) == film.length - 1
    assert film.reason_before(second) == film.frame(first).reason != ""
    with pytest.raises(IndexError):
        film.frame(film.length)


def test_the_picture_shows_who_holds_what(recorded: Recorded) -> None:
    film = Film(files_of(recorded("power_cut").b))
    before, after = (shown(film, place) for place in (0, film.decisions[-1]))
    assert re.search(r"director +server40 +dead +heard 30\.0 s before", after)
    assert re.search(r"VIP +192\.168\.2\.232/24 \(eth0:0\) +server19 +in this kernel", after)
    assert re.search(r"real server +192\.168\.2\.31:80 +up +weight 1", after)
    assert re.search(r"VIP +192\.168\.2\.232/24 \(eth0:0\) +nobody", before)


def shown(film: Film, place: int, lines: int = 20) -> str:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(Group(*picture(film.frame(place), lines)))
    return console.export_text()


def test_a_small_screen_leaves_out_lines_and_says_so(recorded: Recorded) -> None:
    film = Film(files_of(recorded("power_cut").b))
    assert "… 4 more" in shown(film, film.length - 1, lines=3)


class Terminal:
    """The program in a pseudo-terminal of 30 lines; what it wrote since the last look."""

    def __init__(self, words: tuple[str | Path, ...]) -> None:
        self.descriptor, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
        self.program = subprocess.Popen(
            [sys.executable, "-m", "hafsm.cli.main", "replay", *map(str, words)],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env={**os.environ, "TERM": "xterm", "TZ": "UTC", "COLUMNS": "120", "LINES": "30"},
        )
        os.close(inner)
        self._seen = ""

    def press(self, keys: str) -> None:
        os.write(self.descriptor, keys.encode())

    def wait_for(self, pattern: str) -> str:
        """Until the pattern has been written since the last match; returns it."""
        limit = time.monotonic() + PATIENCE_S
        while True:
            found = re.search(pattern, self._seen)
            if found:
                self._seen = self._seen[found.end() :]
                return found[0]
            assert time.monotonic() < limit, f"{pattern!r} never came: {self._seen[-2000:]}"
            self._read()

    def _read(self) -> bool:
        if not select.select([self.descriptor], [], [], 1.0)[0]:
            return True
        try:
            data = os.read(self.descriptor, 65536)
        except OSError:
            return False
        self._seen += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", data.decode(errors="replace")).replace("\r", "")
        return bool(data)

    def end(self) -> int:
        """Wait for the program; its exit status."""
        limit = time.monotonic() + PATIENCE_S
        while self._read() and time.monotonic() < limit:
            pass
        return self.program.wait(PATIENCE_S)


@contextmanager
def terminal(*words: str | Path) -> Iterator[Terminal]:
    shown = Terminal(words)
    try:
        yield shown
    finally:
        if shown.program.poll() is None:
            shown.program.kill()
        shown.program.wait()
        os.close(shown.descriptor)


def test_keys_pause_step_and_leap_in_a_real_terminal(recorded: Recorded) -> None:
    path = recorded("power_cut").b
    film = Film(files_of(path))
    with terminal(path, "--play", "--speed", "0.1") as shown:
        shown.wait_for(r"event 1 \(daemon_started\).*playing ×0\.1")
        shown.press(" ")
        shown.wait_for("paused")
        shown.press("G")
        shown.wait_for(rf"{film.length} of {film.length}  paused")
        place = film.previous_decision(film.length - 1)
        shown.press("p")
        shown.wait_for(rf"event {film.frame(place).seq} .*  {place + 1} of {film.length}")
        shown.press("p")
        dead = film.previous_decision(place)
        shown.wait_for(rf"event {film.frame(dead).seq} ")
        shown.wait_for("server40 is dead: nothing on eth0 for 30.0 s")
        shown.press("\x1b[C")
        shown.wait_for(rf"  {dead + 2} of {film.length}")
        shown.press("\x1b[D")
        shown.wait_for(rf"  {dead + 1} of {film.length}")
        shown.press("n")
        shown.wait_for(rf"  {place + 1} of {film.length}")
        shown.press("g")
        shown.wait_for(rf"  1 of {film.length}")
        shown.press("+ ")
        shown.wait_for(r"×0\.2")
        shown.press("q")
        assert shown.end() == 0


def test_it_plays_by_itself_to_the_end(recorded: Recorded) -> None:
    path = recorded("power_cut").b
    with terminal(path, "--play", "--speed", "1000") as shown:
        length = Film(files_of(path)).length
        shown.wait_for(rf"{length} of {length}  playing ×1000")
        shown.program.send_signal(signal.SIGINT)
        assert shown.end() == 0, "Ctrl-C quits as q does"


def test_without_a_terminal_it_is_misuse(recorded: Recorded) -> None:
    answer = CliRunner().invoke(main, ["replay", str(recorded("power_cut").b), "--play"])
    assert answer.exit_code == 2 and "--play needs a terminal" in answer.output


def test_a_progress_bar_is_shown_on_a_terminal_only(recorded: Recorded) -> None:
    path = recorded("power_cut").b
    with terminal(path) as shown:
        shown.wait_for("identical: ")
        assert shown.end() == 0
    answer = CliRunner().invoke(main, ["replay", str(path)])
    assert answer.output.startswith("identical: ") and answer.output.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["a", "b", "c"], "3 files: a pair has two directors"),
        (["a", "b", "--until", "3"], "--until takes one file, 2 were given"),
        (["a", "b", "--set", "deadtime=5"], "--set takes one file"),
        (["a", "--set", "deadtime=5", "--until", "3"], "--until and --set do not go together"),
        (["a", "--play", "--json"], "--play is for people; --json is not"),
        ([], "Missing argument"),
    ],
)
def test_options_that_do_not_fit_are_misuse(words: list[str], complaint: str) -> None:
    answer = CliRunner().invoke(main, ["replay", *words])
    assert answer.exit_code == 2 and complaint in answer.output
