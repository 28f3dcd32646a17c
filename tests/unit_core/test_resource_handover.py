"""Two directors, message by message: who holds the VIP, when, and what both say about it."""

import pytest

from hafsm.core.machines import Handover, NodeState, Phase
from hafsm.core.settings import MILLISECOND, SECOND, Address, AutoFailback
from hafsm.core.state import Holding
from tests.unit_core.pair import A, B, Pair, act, ev, group


def said(machine, text: str) -> bool:
    return any(text in reason for reason in machine.reasons)


def test_a_simultaneous_start_does_not_wait_ten_seconds() -> None:
    pair = Pair()
    began = pair.now
    pair.start()
    assert pair.now - began < SECOND
    assert pair.holders() == [A]
    assert pair.a.scripts == {"httpd"} and pair.b.scripts == set()
    assert pair.b.table == ()


def test_one_director_alone_waits_for_initdead_and_takes_everything() -> None:
    pair = Pair()
    pair.b.start()
    waited = pair.until(lambda: bool(pair.b.vips()), limit=200 * SECOND)
    assert 120 * SECOND <= waited < 121 * SECOND
    assert said(pair.b, "server40 is dead: nothing on eth0 for 120.0 s (initdead 120.0 s)")


def test_after_a_restart_of_the_daemon_alone_deadtime_is_enough() -> None:
    pair = Pair()
    pair.b.start(same_boot=True)
    assert pair.until(lambda: bool(pair.b.vips())) < 31 * SECOND


def test_resources_start_from_the_left_and_stop_from_the_right() -> None:
    pair = Pair()
    pair.lend = False
    pair.start()
    kinds = [
        (a.verb.value if isinstance(a, act.RunScript) else type(a).__name__)
        for _, actions in pair.a.log
        for a in actions
        if isinstance(a, act.AddAddress | act.RunScript | act.ProgramIpvs | act.RemoveAddress)
    ]
    assert kinds == ["status", "AddAddress", "status", "start", "ProgramIpvs"]
    before = len(pair.a.log)
    pair.a.fold(ev.StopRequested(at=pair.now, by="SIGTERM"))
    pair.until(lambda: bool(pair.a.exits))
    kinds = [
        (a.verb.value if isinstance(a, act.RunScript) else type(a).__name__)
        for _, actions in pair.a.log[before:]
        for a in actions
        if isinstance(a, act.RunScript | act.ProgramIpvs | act.RemoveAddress)
    ]
    assert kinds == ["ProgramIpvs", "stop", "RemoveAddress"]


def test_a_graceful_stop_beside_heartbeat_hands_over_without_waiting_for_deadtime() -> None:
    pair = Pair()
    pair.lend = False
    pair.start()
    pair.a.fold(ev.StopRequested(at=pair.now, by="SIGTERM"))
    assert pair.until(lambda: bool(pair.b.vips())) < SECOND
    pair.run(SECOND)
    assert not pair.a.running and pair.a.vips() == [] and pair.a.table == () and pair.a.scripts == set()
    assert pair.b.scripts == {"httpd"} and pair.b.routes()
    assert said(pair.b, "server40 said goodbye and has released everything; taking over foreign resources")
    pair.run(100 * SECOND)
    assert pair.b.state.peer.state is NodeState.DEAD


@pytest.mark.parametrize("mode", [AutoFailback.ON, AutoFailback.LEGACY])
def test_auto_failback_brings_the_group_home(mode: AutoFailback) -> None:
    pair = Pair(auto_failback=mode).start()
    pair.a.power_cut()
    pair.until(lambda: bool(pair.b.vips()))
    pair.a.start()
    pair.until(lambda: pair.holders() == [A] and pair.settled())
    assert pair.b.scripts == set() and pair.b.table == ()
    assert not pair.b.state.failback_due


def test_without_auto_failback_it_stays() -> None:
    pair = Pair(auto_failback=AutoFailback.OFF).start()
    pair.a.power_cut()
    pair.until(lambda: bool(pair.b.vips()))
    pair.a.start()
    pair.until(pair.settled)
    pair.run(120 * SECOND)
    assert pair.holders() == [B] and pair.settled()


def test_a_power_cut_is_noticed_after_deadtime_and_said_with_numbers() -> None:
    pair = Pair().start()
    pair.run(10 * SECOND)
    pair.a.power_cut()
    took = pair.until(lambda: bool(pair.b.vips()))
    assert 28 * SECOND <= took <= 30 * SECOND + 10 * MILLISECOND
    assert said(pair.b, "server40 is dead: nothing on eth0 for 30.0 s (deadtime 30.0 s); taking over foreign resources")


def test_the_vip_is_gone_from_a_killed_daemon_before_the_peer_takes_it() -> None:
    """Law L6: the lease ends by itself."""
    pair = Pair(lease_ns=28 * SECOND).start()
    pair.run(10 * SECOND)
    pair.a.kill()
    pair.until(lambda: bool(pair.b.vips()))
    assert pair.a.vips() == []


def test_a_healed_partition_is_settled_at_once_in_favour_of_the_preferred_node() -> None:
    pair = Pair().start()
    pair.partition()
    pair.run(60 * SECOND)
    assert pair.holders() == [A, B]
    pair.heal()
    announced = len(pair.a.log)
    pair.until(lambda: pair.holders() == [A])
    assert said(pair.b, "both directors hold foreign resources: releasing them, the preferred node keeps each set")
    pair.run(5 * SECOND)
    assert pair.settled()
    again = [a for _, actions in pair.a.log[announced:] for a in actions if isinstance(a, act.AddAddress)]
    assert again, "the winner tells the network once more where the VIP is"
    assert pair.a.generation == pair.b.generation == 1, "nobody had to start again"


def test_without_auto_failback_the_first_node_of_ha_cf_keeps_everything_after_a_partition() -> None:
    pair = Pair(
        auto_failback=AutoFailback.OFF,
        groups=(group(A), group(B, Address(ip="192.0.2.9", prefix=24, interface="eth0"))),
    )
    pair.start()
    pair.partition()
    pair.run(60 * SECOND)
    pair.heal()
    pair.run(10 * SECOND)
    assert len(pair.a.vips()) == 2 and pair.b.vips() == []


def test_both_nodes_own_a_group_each() -> None:
    other = Address(ip="192.0.2.9", prefix=24, interface="eth0")
    pair = Pair(groups=(group(A), group(B, other))).start()
    assert pair.a.vips() == ["192.168.2.232"] and pair.b.vips() == ["192.0.2.9"]
    pair.b.power_cut()
    pair.until(lambda: len(pair.a.vips()) == 2)
    pair.b.start()
    pair.until(lambda: pair.b.vips() == ["192.0.2.9"] and pair.settled())
    assert pair.a.vips() == ["192.168.2.232"]


def test_a_machine_that_wakes_from_a_freeze_drops_everything_first() -> None:
    pair = Pair().start()
    pair.a.frozen = True
    pair.run(50 * SECOND)
    assert pair.holders() == [B]
    before = len(pair.a.log)
    pair.a.thaw()
    _, actions = pair.a.log[before]
    assert [type(a) for a in actions] == [act.RemoveAddress, act.ProgramIpvs, act.Exit]
    assert said(pair.a, "stood still for 50.0 s (lease 30.0 s): releasing local resources and starting anew")
    pair.until(lambda: pair.holders() == [A] and pair.settled())


def test_a_standby_that_stood_still_does_not_call_the_others_dead() -> None:
    pair = Pair(lease_ns=5 * SECOND).start()
    pair.run(10 * SECOND)
    pair.b.frozen = True
    pair.run(20 * SECOND)
    pair.b.thaw()
    assert pair.b.state.peer.state is not NodeState.DEAD and pair.b.vips() == []
    pair.run(60 * SECOND)
    assert pair.holders() == [A] and pair.settled()


def test_a_crash_that_was_announced_is_not_waited_for() -> None:
    pair = Pair().start()
    pair.a.power_cut()
    pair.b.fold(ev.MessageReceived(at=pair.now, link=0, node=A, kind="NS_goodbye", generation=1))
    assert pair.until(lambda: bool(pair.b.vips())) < SECOND
    assert said(pair.b, "server40 its supervisor says it crashed and has released everything")


def test_a_daemon_killed_and_started_again_finds_what_its_last_life_left() -> None:
    pair = Pair().start()
    pair.a.kill()
    pair.run(2 * SECOND)
    assert pair.a.vips() and pair.a.table and pair.a.scripts
    pair.a.start(same_boot=True)
    pair.run(SECOND)
    assert said(pair.a, "an earlier life left 192.168.2.232/24 (eth0:0), tcp:192.168.2.232:80: cleaning up")
    pair.until(lambda: pair.holders() == [A] and pair.settled())
    assert said(pair.b, "server40 started again (generation 1 → 2)")


def test_a_peer_that_does_not_answer_an_offer_leaves_the_set_where_it_is() -> None:
    pair = Pair().start()
    pair.a.power_cut()
    pair.until(lambda: bool(pair.b.vips()))
    pair.lose = lambda message: ("info", "other") in message.fields
    pair.a.start()
    pair.until(lambda: pair.b.state.handover is Handover.ASKED)
    # A asks again for what it missed; nothing comes because its answer is lost every time.
    pair.until(lambda: pair.b.state.handover is Handover.IDLE)
    assert said(pair.b, "server40 did not answer for 10.0 s: keeping foreign resources")
    assert pair.holders() == [B]


def test_a_peer_that_takes_nothing_loses_what_it_agreed_to_take() -> None:
    pair = Pair().start()
    pair.a.power_cut()
    pair.until(lambda: bool(pair.b.vips()))
    pair.a.start()
    pair.lose = lambda message: (
        ("info", "done") in message.fields
        or (message.kind == "resource" and pair.b.state.handover is Handover.RELEASED)
    )
    pair.until(lambda: pair.b.state.handover is Handover.RELEASED)
    pair.until(lambda: pair.b.state.handover is Handover.IDLE)
    assert said(pair.b, "server40 did not start foreign resources for 120.0 s: taking them back")
    assert pair.holders() == [B]


def test_a_lost_message_is_asked_for_again() -> None:
    pair = Pair().start()
    lost = []

    def lose(message: act.SendMessage) -> bool:
        if message.kind == "shutdone" and not lost:
            lost.append(message)
            return True
        return False

    pair.lose = lose
    pair.b.fold(ev.StopRequested(at=pair.now, by="test"))
    pair.run(SECOND)
    assert lost and pair.a.state.peer.state is not NodeState.DEAD
    # The last word was lost and its sender is gone: deadtime decides.
    pair.until(lambda: pair.a.state.peer.state is NodeState.DEAD)

    pair = Pair().start()
    gone = []

    def lose_first_report(message: act.SendMessage) -> bool:
        if message.kind == "ask_resources" and not gone:
            gone.append(message.sequence)
            return True
        return False

    pair.a.power_cut()
    pair.until(lambda: bool(pair.b.vips()))
    pair.lose = lose_first_report
    pair.a.start()
    pair.until(lambda: pair.holders() == [A] and pair.settled(), limit=8 * SECOND)
    assert gone


@pytest.mark.parametrize("share", [3, 5])
def test_a_lossy_network_delays_and_does_not_confuse(share: int) -> None:
    pair = Pair()
    count = iter(range(10**9))
    pair.lose = lambda message: next(count) % share == 0
    pair.start()
    for _ in range(3):
        pair.a.power_cut()
        pair.until(lambda: pair.holders() == [B])
        pair.a.start()
        pair.until(lambda: pair.holders() == [A] and pair.settled())


def test_a_group_that_does_not_start_is_handed_to_the_peer_and_stays_there() -> None:
    pair = Pair()
    pair.a.refuse = lambda action: isinstance(action, act.RunScript) and action.verb is act.ScriptVerb.START
    pair.a.start()
    pair.b.start()
    pair.until(lambda: pair.holders() == [B] and pair.settled())
    assert said(pair.a, "httpd start: failed (refused by the test); stopping what was started, next try in 30.0 s")
    assert said(pair.a, "does not start here: offering local resources to server19")
    pair.run(250 * SECOND)
    assert pair.holders() == [B] and pair.a.table == () and pair.a.vips() == []


def test_a_group_that_starts_nowhere_is_tried_again_and_does_not_bounce() -> None:
    pair = Pair()
    for machine in (pair.a, pair.b):
        machine.refuse = lambda action: isinstance(action, act.RunScript) and action.verb is act.ScriptVerb.START
        machine.start()
    pair.run(290 * SECOND)
    offers = [r for r in (*pair.a.reasons, *pair.b.reasons) if "does not start here" in r]
    assert len(offers) <= 2
    pair.a.refuse = pair.b.refuse = lambda action: False
    pair.until(lambda: len(pair.holders()) == 1 and pair.settled())


def test_a_script_that_never_ends_is_given_up_at_its_deadline() -> None:
    pair = Pair()
    pair.a.silent = lambda action: isinstance(action, act.RunScript) and action.verb is act.ScriptVerb.START
    pair.a.start()
    pair.b.start()
    pair.until(lambda: pair.holders() == [B] and pair.settled())
    assert said(pair.a, "httpd start: timed out (no result came)")


def test_a_stop_that_fails_is_tried_ten_times_and_does_not_keep_the_vip() -> None:
    pair = Pair().start()
    pair.a.refuse = lambda action: isinstance(action, act.RunScript) and action.verb is act.ScriptVerb.STOP
    pair.a.fold(ev.StopRequested(at=pair.now, by="SIGTERM"))
    pair.until(lambda: bool(pair.a.exits))
    assert said(pair.a, "httpd stop: failed (refused by the test); given up after 10 tries")
    assert pair.a.vips() == []
    pair.until(lambda: pair.holders() == [B])


def test_a_stop_ends_even_if_the_kernel_never_answers() -> None:
    pair = Pair().start()
    pair.a.silent = lambda action: True
    pair.a.fold(ev.StopRequested(at=pair.now, by="SIGTERM"))
    assert pair.until(lambda: bool(pair.a.exits)) <= 101 * SECOND
    last = [type(action) for _, actions in pair.a.log for action in actions][-4:]
    assert act.RemoveAddress in last and last[-1] is act.Exit


def test_fencing_comes_before_a_take_over_and_is_tried_until_it_works() -> None:
    pair = Pair(fencing=True).start()
    pair.a.frozen = True
    refusals = []

    def refuse(action: act.Action) -> bool:
        if isinstance(action, act.FenceNode) and len(refusals) < 2:
            refusals.append(action)
            return True
        return False

    pair.b.refuse = refuse
    pair.until(lambda: bool(pair.b.vips()))
    assert len(refusals) == 2 and not pair.a.running
    assert said(pair.b, "server40 may still hold resources: fencing it before taking over")
    assert said(pair.b, "server40 was fenced; taking over foreign resources")


def test_a_peer_that_held_nothing_is_not_fenced() -> None:
    pair = Pair(fencing=True).start()
    pair.b.power_cut()
    pair.run(60 * SECOND)
    assert not any(isinstance(a, act.FenceNode) for _, actions in pair.a.log for a in actions)
    assert pair.a.state.mine is Holding.ALL


def test_ipfail_moves_the_group_to_the_node_that_sees_the_gateway_and_back() -> None:
    pair = Pair().start()
    pair.run(10 * SECOND)
    pair.a.sees_gateway = False
    took = pair.until(lambda: pair.holders() == [B])
    assert took < 40 * SECOND
    assert said(pair.a, "ping node 192.168.2.251 is dead: no answer for 30.0 s (deadping 30.0 s)")
    pair.run(60 * SECOND)
    assert pair.holders() == [B], "no ping-pong"
    pair.a.sees_gateway = True
    pair.until(lambda: pair.holders() == [A] and pair.settled())


def test_when_nobody_sees_the_gateway_nothing_moves() -> None:
    pair = Pair().start()
    pair.run(10 * SECOND)
    pair.a.sees_gateway = pair.b.sees_gateway = False
    pair.run(200 * SECOND)
    assert pair.holders() == [A]
    assert not any("offering" in r for r in pair.a.reasons)


def test_a_director_that_lost_its_gateway_and_starts_again_does_not_get_the_group_back() -> None:
    pair = Pair().start()
    pair.run(10 * SECOND)
    pair.a.sees_gateway = False
    pair.until(lambda: pair.holders() == [B])
    pair.a.power_cut()
    pair.run(60 * SECOND)
    pair.a.start()
    pair.run(120 * SECOND)
    moves = [r for r in pair.b.reasons if "offering foreign resources" in r]
    assert len(moves) <= 1 and pair.holders() == [B]


def test_a_goodbye_is_final_until_a_newer_generation() -> None:
    pair = Pair().start()
    pair.a.fold(ev.StopRequested(at=pair.now, by="SIGTERM"))
    pair.until(lambda: bool(pair.a.exits))
    pair.run(SECOND)
    last = pair.b.state.peer.sequence
    for offset in range(1, 4):
        pair.b.fold(
            ev.HeartbeatReceived(at=pair.now, link=0, node=A, generation=1, sequence=last + offset, status="active")
        )
    assert pair.b.state.peer.state is NodeState.DEAD and pair.holders() == [B]


def test_stopping_before_joining_ends_at_once() -> None:
    pair = Pair()
    pair.a.start()
    pair.run(100 * MILLISECOND)
    assert pair.a.state.phase is Phase.WAITING
    pair.a.fold(ev.StopRequested(at=pair.now, by="SIGINT"))
    assert pair.until(lambda: bool(pair.a.exits)) < SECOND


def test_a_partition_in_one_direction_is_settled_too() -> None:
    """B never noticed: it has to be asked what it holds."""
    pair = Pair(auto_failback=AutoFailback.OFF).start()
    pair.cut = {(B, A)}
    pair.run(32 * SECOND)
    assert pair.a.state.peer.state is NodeState.DEAD and pair.b.state.peer.state is not NodeState.DEAD
    pair.heal()
    pair.until(pair.settled, limit=5 * SECOND)
    assert pair.holders() == [A]


def test_an_operator_sends_the_group_away_and_it_stays_away() -> None:
    pair = Pair().start()
    pair.a.fold(ev.StandbyRequested(at=pair.now, hold="all", by="root"))
    pair.until(lambda: pair.holders() == [B] and pair.settled(), limit=5 * SECOND)
    assert said(pair.a, "standby all asked by root: offering local resources to server19")
    pair.run(300 * SECOND)
    assert pair.holders() == [B], "auto_failback is for a director that was away"


def test_an_operator_fetches_a_group() -> None:
    pair = Pair().start()
    pair.b.fold(ev.TakeoverRequested(at=pair.now, hold="foreign", by="root"))
    pair.until(lambda: pair.holders() == [B] and pair.settled(), limit=5 * SECOND)
    assert said(pair.b, "takeover foreign asked by root: asking server40 for foreign resources")
    assert said(pair.a, "server19 wants to take over: offering local resources to server19")
    pair.a.fold(ev.TakeoverRequested(at=pair.now, hold="all", by="root"))
    pair.until(lambda: pair.holders() == [A] and pair.settled(), limit=5 * SECOND)


@pytest.mark.parametrize(
    ("kind", "hold", "answer"),
    [
        (ev.StandbyRequested, "foreign", "this director holds none of them"),
        (ev.TakeoverRequested, "local", "this director holds them already"),
    ],
)
def test_what_is_so_already_is_said(kind, hold: str, answer: str) -> None:
    pair = Pair().start()
    pair.a.fold(kind(at=pair.now, hold=hold, by="root"))
    assert said(pair.a, answer)
    assert pair.a.state.handover is Handover.IDLE


def test_without_a_peer_an_operator_is_refused_with_the_reason() -> None:
    pair = Pair().start()
    pair.b.power_cut()
    pair.run(60 * SECOND)
    pair.a.fold(ev.StandbyRequested(at=pair.now, hold="all", by="root"))
    assert said(pair.a, "standby all asked by root: refused, there is no other director to hand over to or from")


@pytest.mark.parametrize("mode", list(AutoFailback))
def test_two_directors_that_joined_without_each_other_settle_when_they_meet(mode: AutoFailback) -> None:
    """Each has declared the other dead in a life that the other never heard of."""
    pair = Pair(auto_failback=mode)
    pair.partition()
    pair.a.start()
    pair.b.start()
    pair.run(130 * SECOND)
    assert pair.holders() == [A, B]
    pair.heal()
    pair.until(pair.settled, limit=5 * SECOND)
    assert pair.holders() == [A]


def test_a_peer_whose_report_was_lost_for_good_is_asked_again() -> None:
    pair = Pair().start()
    pair.partition()
    pair.run(40 * SECOND)
    pair.heal()
    pair.lose = lambda message: message.kind in ("resource", "starting", "NS_rexmit")
    pair.run(20 * SECOND)
    assert not pair.settled()
    pair.lose = lambda message: False
    pair.until(pair.settled, limit=31 * SECOND)


def test_a_director_that_gave_all_away_for_ping_nodes_is_quiet_about_it() -> None:
    """Each verdict was once answered by a count, and each count by a verdict, as fast as the network turns round."""
    pair = Pair().start()
    pair.run(10 * SECOND)
    pair.a.sees_gateway = False
    pair.until(lambda: pair.holders() == [B] and pair.settled())
    before = len(pair.a.log) + len(pair.b.log)
    pair.run(60 * SECOND)
    sent = [
        action.kind
        for machine in (pair.a, pair.b)
        for _, actions in machine.log
        for action in actions
        if isinstance(action, act.SendMessage) and action.kind in ("num_ping_nodes", "you_are_dead")
    ]
    assert len(sent) < 20, "once, and not again until something changes"
    assert len(pair.a.log) + len(pair.b.log) - before < 400


def test_a_director_whose_leases_cannot_be_renewed_leaves_the_vip_to_the_other() -> None:
    """Its kernel refuses every renewal and every new address; the other director is well and idles."""
    pair = Pair(lease_ns=28 * SECOND).start()
    pair.run(10 * SECOND)
    pair.a.refuse = lambda action: isinstance(action, act.RenewAddresses | act.AddAddress)
    renew = pair.a.perform

    def without_renewal(action: act.Action) -> None:
        kept = dict(pair.a.addresses)
        renew(action)
        if isinstance(action, act.RenewAddresses):
            pair.a.addresses = kept

    pair.a.perform = without_renewal  # type: ignore[method-assign]
    took = pair.until(lambda: pair.holders() == [B], limit=60 * SECOND)
    assert took < 45 * SECOND
    assert said(pair.a, "no VIP could be renewed for 28.0 s, its whole lease: releasing local resources")


def test_without_another_director_a_lease_that_ran_out_is_tried_on() -> None:
    pair = Pair(lease_ns=28 * SECOND)
    pair.a.start(same_boot=True)
    pair.until(lambda: pair.holders() == [A])
    pair.a.refuse = lambda action: isinstance(action, act.RenewAddresses)
    pair.run(100 * SECOND)
    assert pair.a.exits == []


def test_the_loser_of_a_healed_partition_lets_go_of_the_vip_while_its_script_hangs() -> None:
    pair = Pair().start()
    pair.b.silent = lambda action: isinstance(action, act.RunScript) and action.verb is act.ScriptVerb.START
    pair.partition()
    pair.until(lambda: pair.holders() == [A, B])
    pair.heal()
    pair.until(lambda: pair.holders() == [A], limit=3 * SECOND)
    pair.run(120 * SECOND)
    assert pair.settled() and pair.b.scripts == set()
