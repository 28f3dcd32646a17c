"""Mail about real servers, and the commands that are told when the last one goes."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hafsm.core.machines import GroupState
from hafsm.core.settings import SECOND, MailAlert, MailPhase, VirtualService
from tests.unit_core.pair import B, Machine, Pair, act, ev, service


@pytest.fixture(autouse=True)
def checks_end_when_the_test_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "first_checks", False)


R31, R41 = "192.168.2.31:80", "192.168.2.41:80"
V = "192.168.2.232:80"
ALERT = MailAlert(to=("root", "ops@example.com"), sender="ldirectord@example.com", smtp="mail.example.com")


def mailed(alert: MailAlert = ALERT, **changes: object) -> Pair:
    """Two servers up, mails of the start forgotten."""
    pair = Pair(services=(service(alert=alert, **changes),)).start()
    for machine in (pair.a, pair.b):
        machine.report_checks(a31=True, a41=True)
    pair.run(5 * SECOND)
    pair.a.mails.clear()
    pair.a.letters.clear()
    return pair


def test_each_transition_is_one_mail_on_the_director_that_holds_the_service() -> None:
    pair = mailed(quiescent=True, name="Web", comment="the shop")
    for machine in (pair.a, pair.b):
        machine.report_checks(a31=False)
    pair.run(5 * SECOND)
    for _ in range(3):
        pair.a.report_checks(a31=False)
    pair.run(5 * SECOND)
    pair.a.report_checks(a31=True)
    pair.run(5 * SECOND)
    assert pair.a.mails == [
        f"[Web] Quiescent real server: {R31} ({V}) (Weight set to 0)",
        f"[Web] Restored real server: {R31} ({V}) (Weight set to 1)",
    ]
    assert pair.b.mails == []
    letter = pair.a.letters[0]
    assert (letter.to, letter.sender, letter.smtp) == (ALERT.to, ALERT.sender, ALERT.smtp)
    head, _, tail = letter.text.partition("\n\n")
    assert head.splitlines() == [
        "ldirectord host: server40",
        f"Log-Message: {pair.a.mails[0]}",
        "Daemon-Status: running",
    ]
    assert tail.splitlines()[:3] == ["Service name: Web", "Comment: the shop", "Reason: connection refused"]


def test_the_last_server_that_goes_and_the_fallback_that_comes_are_two_mails() -> None:
    pair = mailed()
    pair.a.report_checks(a31=False)
    pair.run(5 * SECOND)
    pair.a.report_checks(a41=False)
    pair.run(5 * SECOND)
    assert pair.a.mails == [
        f"Deleted real server: {R31} ({V})",
        f"Deleted real server: {R41} ({V})",
        f"Added fallback server: 127.0.0.1:80 ({V}) (Weight set to 1)",
    ]


def test_many_changes_at_once_are_one_mail_that_lists_them() -> None:
    services = tuple(service(port=80 + n, alert=ALERT, name=f"S{n}") for n in range(4))
    pair = Pair(services=services).start()
    pair.a.report_checks(a31=True, a41=True)
    pair.run(5 * SECOND)
    assert len(pair.a.mails) == 1, "a start is no storm"
    assert pair.a.mails[0].startswith("12 changes of real servers: ")
    text = pair.a.letters[0].text
    assert "Daemon-Status: starting" in text or "Daemon-Status: running" in text
    assert text.count("Added real server: ") == 9, "eight, and one in the subject line"


def test_only_the_phases_asked_for_are_mailed() -> None:
    running = replace(ALERT, phases=(MailPhase.RUNNING,))
    pair = Pair(services=(service(alert=running, fallback=None),)).start()
    pair.a.report_checks(a31=True, a41=False)
    pair.run(5 * SECOND)
    assert pair.a.mails == []
    pair.a.report_checks(a31=False)
    pair.run(5 * SECOND)
    assert pair.a.mails == [f"Deleted real server: {R31} ({V})"]
    pair.a.fold(ev.StopRequested(at=pair.now, by="SIGTERM"))
    pair.until(lambda: bool(pair.a.exits))
    assert len(pair.a.mails) == 1
    stopping = mailed(replace(ALERT, phases=(MailPhase.STOPPING,)))
    stopping.a.fold(ev.StopRequested(at=stopping.now, by="SIGTERM"))
    stopping.a.fold(ev.StopRequested(at=stopping.now, by="SIGTERM"))
    stopping.until(lambda: bool(stopping.a.exits))
    assert stopping.a.mails == [f"Purged real server (stop): {r} ({V})" for r in (R31, R41)]


def test_a_server_that_was_never_up_is_told_once_and_reminded_of() -> None:
    often = replace(ALERT, again_ns=600 * SECOND)
    pair = Pair(services=(service(alert=often, fallback=None),)).start()
    pair.a.report_checks(a31=True, a41=False)
    pair.run(5 * SECOND)
    assert pair.a.mails == [
        f"Added real server: {R31} ({V}) (Weight set to 1)",
        f"Inaccessible real server: {R41} ({V})",
    ]
    pair.a.report_checks(a41=False)
    pair.run(1300 * SECOND)
    assert pair.a.mails[2:] == [f"Inaccessible real server: {R41} ({V})"] * 2
    pair.a.report_checks(a41=True)
    pair.run(1300 * SECOND)
    assert pair.a.mails[4:] == [f"Added real server: {R41} ({V}) (Weight set to 1)"]
    assert pair.a.state.reminders == ()


def test_who_was_drained_by_somebody_is_not_reminded_of() -> None:
    pair = mailed(replace(ALERT, again_ns=600 * SECOND))
    key = "tcp:192.168.2.232:80"
    verb = ev.RealVerb.DRAIN
    pair.a.fold(ev.RealRequested(at=pair.now, verb=verb, targets=((key, R31),), by="alice", wall_ns=0))
    pair.run(2000 * SECOND)
    assert pair.a.mails == [
        f"Quiescent real server: {R31} ({V}) (Weight set to 0)",
        f"Deleted real server: {R31} ({V})",
    ]
    assert "Reason: drain asked by alice" in pair.a.letters[0].text


def test_a_server_that_the_file_drops_is_mailed_in_the_phase_reloading() -> None:
    pair = mailed()
    old = service(alert=ALERT)
    pair.a.fold(ev.ServicesReloaded(at=pair.now, services=(replace(old, reals=old.reals[1:]),)))
    pair.run(5 * SECOND)
    assert pair.a.mails == [f"Purged real server (start): {R31} ({V})"]
    assert "Daemon-Status: reloading" in pair.a.letters[0].text


# ---- fallbackcommand

START, STOP = f"/bin/f start {V} tcp", f"/bin/f stop {V} tcp"


def commanded(**changes: object) -> Pair:
    pair = Pair(services=(commanded_service(**changes),)).start()
    pair.run(SECOND)
    return pair


def commanded_service(**changes: object) -> VirtualService:
    return service(fallback_command="/bin/f", **changes)


def test_the_command_is_told_real_transitions_only() -> None:
    pair = commanded()
    assert pair.a.commands == [], "nobody is known yet"
    pair.a.report_checks(a31=True, a41=True)
    pair.run(SECOND)
    assert pair.a.commands == [], "nothing was started that could be stopped"
    pair.a.report_checks(a31=False)
    pair.run(SECOND)
    pair.a.report_checks(a41=False)
    pair.run(SECOND)
    assert pair.a.commands == [START]
    pair.a.report_checks(a31=False, a41=False)
    pair.run(SECOND)
    pair.a.report_checks(a31=True)
    pair.run(SECOND)
    pair.a.report_checks(a41=True)
    pair.run(SECOND)
    assert pair.a.commands == [START, STOP]
    assert pair.b.commands == [], "a standby runs nothing"


def test_servers_that_are_down_from_the_start_are_a_transition_once_all_are_known() -> None:
    pair = commanded()
    pair.a.report_checks(a31=False)
    pair.run(SECOND)
    assert pair.a.commands == []
    pair.a.report_checks(a41=False)
    pair.run(SECOND)
    assert pair.a.commands == [START]


def test_a_mark_is_told_port_0() -> None:
    mark = commanded_service(protocol="fwm", address="", port=0, mark=7)
    pair = Pair(services=(mark,)).start()
    pair.a.report_checks(a31=False, a41=False)
    pair.run(SECOND)
    assert pair.a.commands == ["/bin/f start :0 fwm"]


def test_who_gives_the_service_up_says_stop_and_who_takes_it_says_start() -> None:
    pair = commanded()
    for machine in (pair.a, pair.b):
        machine.report_checks(a31=False, a41=False)
    pair.run(SECOND)
    pair.a.fold(ev.StandbyRequested(at=pair.now, hold="all", by="root"))
    pair.until(lambda: pair.holders() == [B] and pair.settled())
    pair.run(SECOND)
    assert pair.a.commands == [START, STOP]
    assert pair.b.commands == [START]
    pair.b.fold(ev.StopRequested(at=pair.now, by="SIGTERM"))
    pair.until(lambda: bool(pair.b.exits))
    assert pair.b.commands == [START, STOP]


def test_a_later_life_knows_what_was_said() -> None:
    pair = commanded()
    pair.b.power_cut()
    pair.run(60 * SECOND)
    pair.a.report_checks(a31=False, a41=False)
    pair.run(SECOND)
    pair.a.kill()
    pair.run(SECOND)
    pair.a.start(same_boot=True)
    pair.until(lambda: pair.a.state.groups[0].state is GroupState.STARTED)
    pair.a.report_checks(a31=False, a41=False)
    pair.run(SECOND)
    assert pair.a.commands == [START], "not again"
    pair.a.report_checks(a31=True)
    pair.run(SECOND)
    assert pair.a.commands == [START, STOP]


def test_one_word_at_a_time_and_a_command_that_never_ends_does_not_hold_the_next_for_ever() -> None:
    pair = commanded()
    pair.a.silent = lambda action: isinstance(action, act.RunFallbackCommand)
    pair.a.report_checks(a31=False, a41=False)
    pair.run(SECOND)
    pair.a.report_checks(a31=True)
    pair.run(30 * SECOND)
    assert pair.a.commands == [START]
    pair.run(60 * SECOND)
    assert pair.a.commands == [START, STOP]
    assert any("fallbackcommand start of tcp:192.168.2.232:80 timed out" in r for r in pair.a.reasons)


def test_a_command_that_fails_is_told_and_not_repeated() -> None:
    pair = commanded()
    pair.a.refuse = lambda action: isinstance(action, act.RunFallbackCommand)
    pair.a.report_checks(a31=False, a41=False)
    pair.run(60 * SECOND)
    assert pair.a.commands == [START]
    assert any(
        "fallbackcommand start of tcp:192.168.2.232:80 failed (refused by the test)" in r for r in pair.a.reasons
    )


def test_a_reload_that_drops_the_command_stops_what_it_started() -> None:
    pair = commanded()
    pair.a.report_checks(a31=False, a41=False)
    pair.run(SECOND)
    pair.a.fold(ev.ServicesReloaded(at=pair.now, services=(service(),)))
    pair.run(SECOND)
    assert pair.a.commands == [START, STOP]
    assert pair.a.state.fallbacks == ()
