"""Every row of the hand-over and the phase is reached by a scripted interaction, and does what its row says."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from hafsm.core.machines import HANDOVER, PHASE, Handover, Phase
from hafsm.core.settings import MILLISECOND, SECOND
from hafsm.core.state import Holding
from tests.unit_core.pair import A, B, Machine, Pair, act, ev


def returning(pair: Pair) -> None:
    """A was away and starts again: B will offer it its groups."""
    pair.start()
    pair.a.power_cut()
    pair.until(lambda: bool(pair.b.vips()))
    pair.a.start()


def held(state: Handover) -> tuple[Pair, Machine]:
    """A pair whose failback stands still with one side in this state."""
    pair = Pair()
    if state is Handover.IDLE:
        return pair.start(), pair.a
    returning(pair)
    stopping = isinstance
    match state:
        case Handover.ASKED:
            machine, pair.lose = pair.b, lambda message: ("info", "other") in message.fields
        case Handover.OFFERED:
            machine, pair.lose = pair.a, lambda message: ("info", "done") in message.fields
        case Handover.RELEASING:
            machine = pair.b
            machine.silent = lambda action: stopping(action, act.RunScript) and action.verb is act.ScriptVerb.STOP
        case Handover.RELEASED:
            machine = pair.b
            pair.lose = lambda message: pair.b.state.handover is Handover.RELEASED
        case _:
            machine = pair.a
            machine.silent = lambda action: stopping(action, act.RunScript) and action.verb is act.ScriptVerb.START
    pair.until(lambda: machine.state.handover is state)
    return pair, machine


def hears(machine: Machine, kind: str, **fields: object) -> None:
    """The next message of the peer, as if it had come by itself."""
    peer = machine.state.peer
    machine.fold(
        ev.MessageReceived(
            at=machine.pair.now,
            link=0,
            node=peer.name,
            kind=kind,
            generation=peer.generation,
            sequence=peer.sequence + 1,
            **fields,
        )
    )


TRIGGERS: dict[str, Callable[[Machine], None]] = {
    "peer_me": lambda machine: hears(machine, "ask_resources", hold="local", info="me"),
    "peer_other": lambda machine: hears(machine, "ask_resources", hold="local", info="other"),
    "peer_done": lambda machine: hears(machine, "ask_resources", hold="local", info="done"),
    "peer_holds": lambda machine: hears(machine, "resource", hold="local", full=True, stable=True),
    "ask": lambda machine: machine.fold(ev.StandbyRequested(at=machine.pair.now, hold="all", by="root")),
    "cancel": lambda machine: hears(machine, "shutdone"),
}


@pytest.mark.parametrize("state", list(Handover))
@pytest.mark.parametrize("trigger", list(TRIGGERS))
def test_a_hand_over_moves_as_its_row_says(state: Handover, trigger: str) -> None:
    _, machine = held(state)
    rows = [row for row in HANDOVER.rows if (row.source, row.trigger) == (state, trigger)]
    TRIGGERS[trigger](machine)
    expected = {row.dest or state for row in rows}
    if state is Handover.OFFERED and trigger == "peer_done":
        expected |= {Handover.TAKING}
    if state is Handover.ASKED and trigger == "peer_holds":
        expected = {Handover.IDLE}  # by `cancel`: both hold it, which is settled without a hand-over
    assert machine.state.handover in expected
    if trigger == "cancel":
        assert machine.state.handover is Handover.IDLE and machine.state.mine is Holding.ALL


@pytest.mark.parametrize("state", [Handover.ASKED, Handover.RELEASED, Handover.OFFERED])
def test_a_hand_over_whose_other_side_stands_still_ends(state: Handover) -> None:
    pair, machine = held(state)
    other = pair.other(machine)
    other.frozen = True
    pair.lose = lambda message: message.kind != "status"
    machine.fold(ev.DeadlinePassed(at=pair.now))
    # The other side's heartbeats go on, as if only its hand-over had stopped.
    for _ in range(130):
        peer = machine.state.peer
        machine.fold(
            ev.HeartbeatReceived(
                at=pair.now,
                link=0,
                node=other.name,
                generation=peer.generation,
                sequence=peer.sequence + 1,
                status="active",
            )
        )
        pair.run(SECOND)
    assert machine.state.handover in (Handover.IDLE, Handover.ASKED)
    assert any("did not" in reason for reason in machine.reasons)


def test_a_set_that_the_peer_reports_as_its_own_ends_the_hand_over_without_its_done() -> None:
    pair, machine = held(Handover.RELEASED)
    hears(machine, "resource", hold="local", full=True, stable=True)
    assert machine.state.handover is Handover.IDLE
    assert any("server40 has foreign resources now" in reason for reason in machine.reasons)
    pair.until(lambda: pair.b.vips() == [], limit=SECOND)


def joining(phase: Phase, *, lend: bool = True) -> tuple[Pair, Machine]:
    """A while it joins, with B silent from the right moment on; without `lend` each thinks the other a heartbeat 3."""
    pair = Pair()
    pair.lend = lend
    if phase is Phase.WAITING:
        pair.a.start()
        pair.run(100 * MILLISECOND)
    elif phase is Phase.STARTING:
        pair.lose = lambda message: message.kind in ("starting", "resource", "NS_rexmit")
        pair.a.start()
        pair.b.start()
    elif phase is Phase.RECEIVED:
        pair.lose = lambda message: message.kind in ("resource", "NS_rexmit")
        pair.a.start()
        pair.b.start()
    else:
        pair.start()
    if phase in (Phase.LEAVING, Phase.GONE):
        pair.a.silent = lambda action: phase is Phase.LEAVING
        pair.a.fold(ev.StopRequested(at=pair.now, by="test"))
    pair.until(lambda: pair.a.state.phase is phase)
    return pair, pair.a


def said(machine: Machine) -> list[str]:
    """Kinds of the messages of this life."""
    return [message.kind for message in machine.sent.values()]


PHASE_TRIGGERS: dict[str, Callable[[Machine], None]] = {
    "peer_starting": lambda machine: hears(machine, "starting"),
    "peer_reported": lambda machine: hears(machine, "resource", hold="local", full=True, stable=False),
    "peer_stable": lambda machine: hears(machine, "resource", hold="local", full=True, stable=True),
    "stop": lambda machine: machine.fold(ev.StopRequested(at=machine.pair.now, by="test")),
    "alone": lambda machine: hears(machine, "shutdone"),
}


@pytest.mark.parametrize("phase", [p for p in Phase if p is not Phase.WAITING])
@pytest.mark.parametrize("trigger", list(PHASE_TRIGGERS))
def test_a_phase_moves_as_its_row_says(phase: Phase, trigger: str) -> None:
    pair, machine = joining(phase)
    row = next(row for row in PHASE.rows if (row.source, row.trigger) == (phase, trigger))
    PHASE_TRIGGERS[trigger](machine)
    reached = row.dest or phase
    if trigger == "stop" and phase is Phase.STABLE:
        pair.until(lambda: machine.state.phase is not Phase.STABLE, limit=SECOND)  # it hands over first
    if trigger == "stop" and phase in (Phase.STARTING, Phase.RECEIVED):
        assert machine.state.phase in (Phase.LEAVING, Phase.GONE), "nothing had to be stopped"
    else:
        assert machine.state.phase in (reached, Phase.GONE if reached is Phase.LEAVING else reached)


@pytest.mark.parametrize(
    ("phase", "lend", "waits_s"), [(Phase.STARTING, False, 10), (Phase.STARTING, True, 30), (Phase.RECEIVED, True, 30)]
)
def test_a_join_without_an_answer_ends(phase: Phase, lend: bool, waits_s: int) -> None:
    """heartbeat is given the 10 s that it gives; a hafsm that lives is asked every second for deadtime."""
    pair, machine = joining(phase, lend=lend)
    asked = said(machine).count("starting")
    took = pair.until(lambda: machine.state.phase is Phase.STABLE, limit=31 * SECOND)
    assert (waits_s - 1) * SECOND < took <= waits_s * SECOND + 100 * MILLISECOND
    assert any(
        f"no stable answer for {waits_s}.0 s; taking the local resources" in reason for reason in machine.reasons
    )
    asked = said(machine).count("starting") - asked
    assert (asked in (28, 29, 30)) if lend else (asked == 0)


def test_a_hafsm_that_says_what_it_holds_and_goes_on_starting_is_waited_for_ten_seconds() -> None:
    pair, machine = joining(Phase.RECEIVED)
    hears(machine, "resource", hold="local", full=True, stable=False)
    before = said(machine).count("starting")
    took = pair.until(lambda: machine.state.phase is Phase.STABLE, limit=11 * SECOND)
    assert took > 9 * SECOND and said(machine).count("starting") == before
    assert any("no stable answer for 10.0 s" in reason for reason in machine.reasons)


def test_one_answer_in_thirty_seconds_is_enough() -> None:
    """A director that joins a network which loses nearly all reports does not hold the VIP beside its owner."""
    pair = Pair().start()
    pair.b.fold(ev.TakeoverRequested(at=pair.now, hold="all", by="test"))
    pair.until(lambda: pair.holders() == [B])
    pair.a.kill()
    pair.run(2 * SECOND)
    reports = itertools.count()
    pair.lose = lambda message: message.kind == "NS_rexmit" or (message.kind == "resource" and next(reports) < 25)
    pair.a.start(same_boot=True)
    pair.until(lambda: pair.a.state.phase is Phase.STABLE, limit=31 * SECOND)
    assert any("holds this node's resources" in reason or "holds all resources" in reason for reason in pair.a.reasons)
    assert pair.holders() == [B]


def test_a_question_that_comes_late_says_nothing_of_the_present() -> None:
    """A `starting` that was sent again and comes after the peer's stable report: it gets its answer, no more."""
    pair = Pair().start()
    peer = pair.a.state.peer
    assert peer is not None and peer.stable
    late = ev.MessageReceived(
        at=pair.now, link=0, node=B, kind="starting", generation=peer.generation, sequence=peer.report_sequence - 1
    )
    pair.a.state.peer = replace(peer, missing=(late.sequence,))
    before = len(said(pair.a))
    pair.a.fold(late)
    assert pair.a.state.peer.stable and not pair.a.state.peer.starting
    assert "resource" in said(pair.a)[before:]


@pytest.mark.parametrize("name", [A, B])
def test_a_daemon_that_dies_at_any_moment_of_a_start_and_a_hand_over_and_lives_again_still_settles(name: str) -> None:
    """Killed after its n-th event, for every n of a start, a failback and a standby; started again a moment later."""

    def story(kill_at: int) -> bool:
        """True if the story was over before the kill."""
        pair = Pair()
        victim = pair.a if name == A else pair.b
        folded = [0]
        fold = victim.fold

        def counting(event: ev.Event) -> None:
            fold(event)
            folded[0] += 1
            if folded[0] == kill_at:
                victim.kill()
                pair.after(3 * SECOND, lambda: victim.start(same_boot=True))

        victim.fold = counting  # type: ignore[method-assign]
        pair.start()
        pair.a.fold(ev.StandbyRequested(at=pair.now, hold="all", by="root"))
        pair.run(SECOND)
        pair.b.fold(ev.StandbyRequested(at=pair.now, hold="all", by="root"))
        pair.run(20 * SECOND)
        pair.until(lambda: victim.running and pair.settled())
        pair.run(60 * SECOND)
        assert pair.settled() and len(pair.holders()) == 1, (kill_at, pair.a.reasons[-5:], pair.b.reasons[-5:])
        return folded[0] < kill_at

    kill_at = 1
    while not story(kill_at) and kill_at < 60:
        kill_at += 1
    assert kill_at > 25
