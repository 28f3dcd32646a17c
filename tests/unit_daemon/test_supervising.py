"""Real forks: a core that ends, crashes, hangs, asks for a new life."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from hafsm.daemon.supervisor import EXIT_REFUSED, EXIT_RESTART, Supervisor


@pytest.fixture(autouse=True)
def own_signals():
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


class Lives:
    """Runs `scripts[n]` in life n; counts in a file, because each life is a process."""

    def __init__(self, folder: Path, *lives) -> None:
        self._file = folder / "lives"
        self._lives = lives

    def __call__(self, alive: int) -> int:
        number = self.count
        with self._file.open("a") as file:
            file.write(".")
        return self._lives[number](alive)

    @property
    def count(self) -> int:
        return len(self._file.read_text()) if self._file.exists() else 0


def ends(code: int):
    return lambda alive: code


def dies(alive: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def raises(alive: int) -> int:
    raise RuntimeError("planted")


def hangs(alive: int) -> int:
    os.write(alive, b".")
    time.sleep(60)
    return 0


def breathes_then_ends(alive: int) -> int:
    for _ in range(8):
        os.write(alive, b".")
        time.sleep(0.05)
    return 0


def supervise(lives: Lives, **options) -> tuple[int, list[str], int]:
    crashes: list[str] = []
    fed: list[int] = []
    options.setdefault("hang_limit_s", 10.0)
    code = Supervisor(lives, on_crash=crashes.append, feed=lambda: fed.append(1), **options).run()
    return code, crashes, len(fed)


def test_a_peaceful_end_is_the_daemons_end(tmp_path: Path) -> None:
    assert supervise(Lives(tmp_path, breathes_then_ends))[:2] == (0, [])


def test_signs_of_life_feed_the_watchdog(tmp_path: Path) -> None:
    assert supervise(Lives(tmp_path, breathes_then_ends))[2] >= 2


def test_a_refusal_is_not_tried_again(tmp_path: Path) -> None:
    lives = Lives(tmp_path, ends(EXIT_REFUSED))
    assert supervise(lives)[:2] == (EXIT_REFUSED, []) and lives.count == 1


def test_a_new_life_that_was_asked_for_is_no_crash(tmp_path: Path) -> None:
    lives = Lives(tmp_path, ends(EXIT_RESTART), ends(0))
    assert supervise(lives)[:2] == (0, []) and lives.count == 2


@pytest.mark.parametrize(
    ("crash", "why"), [(dies, "the core ended with signal 9"), (raises, "the core ended with exit code 70")]
)
def test_a_crash_releases_everything_and_begins_a_new_life(tmp_path: Path, crash, why: str) -> None:
    lives = Lives(tmp_path, crash, ends(0))
    code, crashes, _ = supervise(lives)
    assert (code, crashes, lives.count) == (0, [why], 2)


def test_a_hang_is_noticed_and_killed(tmp_path: Path) -> None:
    began = time.monotonic()
    code, crashes, _ = supervise(Lives(tmp_path, hangs, ends(0)), hang_limit_s=0.4)
    assert (code, crashes) == (0, ["the core's loop gave no sign of life for 0.4 s"])
    assert time.monotonic() - began < 30


def test_releasing_may_fail_and_the_core_lives_again(tmp_path: Path) -> None:
    def broken(why: str) -> None:
        raise OSError("planted")

    lives = Lives(tmp_path, dies, ends(0))
    assert Supervisor(lives, on_crash=broken, feed=lambda: None, hang_limit_s=10).run() == 0 and lives.count == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_reaches_the_core_which_decides(tmp_path: Path, number: signal.Signals) -> None:
    def waits(alive: int) -> int:
        caught = []
        signal.signal(number, lambda *_: caught.append(1))
        (tmp_path / "ready").write_text("")
        while not caught:
            os.write(alive, b".")
            time.sleep(0.02)
        return 0

    def later() -> None:
        while not (tmp_path / "ready").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=later)
    lives = Lives(tmp_path, waits)
    supervisor = Supervisor(lives, on_crash=lambda why: None, feed=lambda: None, hang_limit_s=10)
    thread.start()
    assert supervisor.run() == 0 and lives.count == 1
    thread.join()
