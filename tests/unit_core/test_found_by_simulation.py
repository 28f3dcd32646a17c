"""What the simulator found in the core, as short scripts."""

from msgspec.structs import replace

from hafsm.core.machines import NodeState
from hafsm.core.settings import MILLISECOND, SECOND, AutoFailback
from tests.unit_core.pair import VIP, A, B, Pair, act, ev, group


def test_a_new_life_drops_the_vips_of_the_last_one_before_it_stops_scripts() -> None:
    """The other director takes over when it hears of the new life; a script that stops slowly must not make two owners
    of it."""
    pair = Pair().start()
    pair.a.kill()
    pair.a.generation += 1
    pair.a.silent = lambda action: isinstance(action, act.RunScript)
    pair.a.start(same_boot=True)
    pair.run(20 * MILLISECOND)
    assert pair.holders() == [B]
    pair.run(20 * SECOND)
    assert pair.holders() == [B], "and a later look at the kernel does not bring them back"


def test_who_says_something_new_is_alive_although_its_status_messages_are_lost() -> None:
    pair = Pair().start()
    peer = pair.b.state.peer
    assert peer is not None
    sequence = peer.sequence
    pair.partition()
    for _ in range(4):
        pair.run(10 * SECOND)
        sequence += 1
        pair.b.fold(
            ev.MessageReceived(at=pair.now, link=0, node=A, kind="num_ping_nodes", generation=1, sequence=sequence)
        )
    assert not [reason for reason in pair.b.reasons if "is dead" in reason]
    for _ in range(4):
        pair.run(10 * SECOND)
        pair.b.fold(ev.MessageReceived(at=pair.now, link=0, node=A, kind="NS_ackmsg", generation=1))
    assert pair.b.state.peer is not None and pair.b.state.peer.state is NodeState.DEAD, (
        "what stands outside the sequence may have been recorded"
    )


def test_two_directors_do_not_tell_each_other_their_ping_nodes_without_end() -> None:
    """The one that sees fewer and has nothing to give does not answer `you_are_dead`."""
    pair = Pair().start()
    assert pair.holders() == [A]
    pair.b.sees_gateway = False
    pair.run(40 * SECOND)
    before = len(pair.a.log)
    pair.run(10 * SECOND)
    assert len(pair.a.log) - before < 30
    assert pair.a.vips() == [VIP.ip]


def test_who_offers_what_the_other_holds_too_lets_go_of_it() -> None:
    """A machine whose clock had stopped never missed the other director; its operator's offer must not hide that both
    hold the VIP: no later message would say so again."""
    pair = Pair(groups=(group(B),), auto_failback=AutoFailback.OFF)
    pair.a.config = replace(pair.a.config, deadtime_ns=90 * SECOND)  # server19 does not miss it
    pair.start()
    assert pair.holders() == [B]
    pair.partition()
    pair.until(lambda: pair.holders() == [A, B])
    pair.b.fold(ev.StandbyRequested(at=pair.now, hold="all", by="alice"))
    pair.heal()
    pair.until(pair.settled)
    pair.run(30 * SECOND)
    assert pair.holders() == [A]


def test_a_fallback_command_that_the_file_has_lost_is_not_in_force_for_ever() -> None:
    """The file was edited, then the power went: the next life knows the last word and no command to take it back."""
    pair = Pair()
    pair.a.generation += 1
    pair.a.running = True
    event = ev.DaemonStarted(
        at=pair.now,
        generation=1,
        wall_ns=0,
        boot_id="b",
        same_boot=False,
        version="0",
        fallbacks=("tcp:192.168.2.232:80",),
    )
    pair.a.fold(event)
    assert pair.a.state.fallbacks == ()
    sentence = "fallbackcommand start of tcp:192.168.2.232:80 was the last word, and the file has no command to stop it"
    assert any(sentence in reason for reason in pair.a.reasons)
