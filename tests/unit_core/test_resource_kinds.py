"""SendArp, MailTo and LVSSyncDaemonSwap within a group: when they act, and whom their failure concerns."""

from __future__ import annotations

from msgspec.structs import replace

from hafsm.core.machines import GroupState
from hafsm.core.settings import SECOND, Address, Group, Resource, ResourceKind, SyncDaemon, SyncRole
from tests.unit_core.pair import VIP, A, B, Machine, Pair, act, ev, group

SEGMENT = Address(ip=VIP.ip, prefix=32, interface="eth1")
MASTER, BACKUP = SyncDaemon(role=SyncRole.MASTER), SyncDaemon(role=SyncRole.BACKUP)
ARP = Resource(kind=ResourceKind.ANNOUNCE, text="SendArp::192.168.2.232/eth1", announced=SEGMENT)
MAIL = Resource(kind=ResourceKind.MAIL, text="MailTo::root,ops::Web", arguments=("root,ops", "Web"))
SYNC = Resource(kind=ResourceKind.SYNC, text="LVSSyncDaemonSwap::master", sync=MASTER)


def cluster(*more: Resource) -> Pair:
    whole: Group = group(A)
    return Pair(groups=(replace(whole, resources=(*whole.resources[:2], *more)),))


def acts(machine: Machine, kind: type[act.Action]) -> list[act.Action]:
    return [action for _, actions in machine.log for action in actions if isinstance(action, kind)]


def order(machine: Machine, since: int = 0) -> list[str]:
    quiet = act.SendMessage | act.SendPings | act.SetChecks | act.ObserveKernel | act.RenewAddresses | act.Exit
    return [
        action.verb.value if isinstance(action, act.RunScript) else type(action).__name__
        for _, actions in machine.log[since:]
        for action in actions
        if not isinstance(action, quiet)
    ]


def stop(pair: Pair) -> int:
    since = len(pair.a.log)
    pair.a.fold(ev.StopRequested(at=pair.now, by="SIGTERM"))
    pair.until(lambda: bool(pair.a.exits))
    return since


def test_each_acts_in_its_turn() -> None:
    pair = cluster(ARP, SYNC, MAIL).start()
    began = next(i for i, (_, actions) in enumerate(pair.a.log) if any(isinstance(a, act.AddAddress) for a in actions))
    assert order(pair.a, began) == ["AddAddress", "status", "start", "AnnounceAddress", "SetSyncDaemon", "SendMail"]
    assert order(pair.a, stop(pair)) == ["SendMail", "SetSyncDaemon", "stop", "RemoveAddress"]
    pair.until(lambda: pair.holders() == [B])


def test_an_address_is_announced_at_start_only_and_is_not_ours_to_remove() -> None:
    pair = cluster(ARP).start()
    assert [action.address for action in acts(pair.a, act.AnnounceAddress)] == [SEGMENT]
    stop(pair)
    assert len(acts(pair.a, act.AnnounceAddress)) == 1
    assert {action.address for action in acts(pair.a, act.RemoveAddress)} == {VIP}


def test_an_announcement_that_fails_fails_the_group() -> None:
    pair = cluster(ARP)
    pair.a.refuse = lambda action: isinstance(action, act.AnnounceAddress)
    pair.a.start(same_boot=True)
    pair.until(lambda: pair.a.state.groups[0].state is GroupState.FAILED)
    assert pair.a.state.groups[0].failure == "SendArp::192.168.2.232/eth1: failed (refused by the test)"
    assert not pair.a.vips()


def test_a_standby_learns_connections_from_its_first_moment_and_the_holder_sends_them() -> None:
    pair = cluster(SYNC).start()
    assert (pair.a.sync, pair.b.sync) == (MASTER, BACKUP)
    pair.a.fold(ev.StandbyRequested(at=pair.now, hold="all", by="root"))
    pair.until(lambda: pair.holders() == [B] and pair.settled())
    assert (pair.a.sync, pair.b.sync) == (BACKUP, MASTER)


def test_the_word_slave_is_the_other_way_round() -> None:
    pair = cluster(replace(SYNC, text="LVSSyncDaemonSwap::slave", sync=BACKUP)).start()
    assert (pair.a.sync, pair.b.sync) == (BACKUP, MASTER)


def test_a_sync_daemon_that_does_not_start_fails_the_group_and_the_peer_takes_it() -> None:
    pair = cluster(SYNC)
    pair.a.refuse = lambda action: isinstance(action, act.SetSyncDaemon) and action.daemon == MASTER
    pair.a.start()
    pair.b.start()
    pair.until(lambda: pair.holders() == [B] and pair.settled())
    assert any("LVSSyncDaemonSwap::master: failed (refused by the test)" in reason for reason in pair.a.reasons)
    assert (pair.a.sync, pair.b.sync) == (BACKUP, MASTER)


def test_a_kernel_without_sync_daemons_does_not_keep_a_director_from_joining() -> None:
    pair = cluster(SYNC)
    pair.b.refuse = lambda action: isinstance(action, act.SetSyncDaemon)
    pair.start()
    assert any("given up after 10 tries" in reason for reason in pair.b.reasons)


def test_mail_says_what_happens_where() -> None:
    pair = cluster(MAIL).start()
    stop(pair)
    pair.until(lambda: bool(pair.b.mails))
    mails = acts(pair.a, act.SendMail)
    key = pair.a.config.groups[0].key
    assert [mail.to for mail in mails] == [("root", "ops")] * 2
    assert pair.a.mails == [f"Web: group {key} starts on server40", f"Web: group {key} stops on server40"]
    assert pair.b.mails == [f"Web: group {key} starts on server19"]
    assert mails[0].text.startswith(f"group {key} starts on server40, said by hafsm event ")


def test_without_a_subject_the_sentence_stands_alone() -> None:
    pair = cluster(replace(MAIL, arguments=("root",))).start()
    assert pair.a.mails == [f"group {pair.a.config.groups[0].key} starts on server40"]


def test_mail_that_fails_or_hangs_is_said_and_delays_nothing() -> None:
    for trouble in ("refuse", "silent"):
        pair = cluster(MAIL)
        setattr(pair.a, trouble, lambda action: isinstance(action, act.SendMail))
        pair.start()
        assert pair.holders() == [A] and pair.a.mails
        pair.run(SECOND)
        assert pair.a.state.groups[0].state is GroupState.STARTED
        assert any("failed: refused by the test" in r for r in pair.a.reasons) is (trouble == "refuse")


def test_a_new_life_cleans_up_without_mail() -> None:
    pair = cluster(MAIL).start()
    pair.a.kill()
    pair.a.mails.clear()
    pair.a.start(same_boot=True)
    pair.until(pair.settled)
    assert [mail for mail in pair.a.mails if " stops " in mail] == []
