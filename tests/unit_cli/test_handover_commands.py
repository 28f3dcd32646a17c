"""What the admin socket answers to standby and takeover, and how the command judges what follows."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from hafsm.cli.ask import NotObeyed, ask
from hafsm.cli.standby import Verdict, Watch
from hafsm.core import actions as act
from hafsm.core import events as ev
from hafsm.core.describe import describe
from hafsm.core.machines import Phase
from hafsm.core.settings import SECOND
from hafsm.errors import InvariantError
from tests.unit_cli.serving import serving
from tests.unit_core.pair import A, B, Machine, Pair

ME = pwd.getpwuid(os.geteuid()).pw_name


async def test_the_decision_is_the_answer(tmp_path: Path) -> None:
    pair = Pair().start()
    async with serving(pair.a, tmp_path) as served:
        before = served.core.state.number
        assert await served.do(ask, "/v1/standby", {"hold": "all"}) == {
            "outcome": "begun",
            "hold": "local",
            "reason": f"standby all asked by {ME}: offering local resources to server19",
            "event": before + 1,
        }
        assert await served.do(ask, "/v1/standby", {"hold": "local"}) == {
            "outcome": "refused",
            "hold": "local",
            "reason": f"standby local asked by {ME}: refused, another hand-over is under way",
            "event": before + 2,
        }
        assert await served.do(ask, "/v1/standby", {"hold": "failback"}) == {
            "outcome": "nothing to do",
            "hold": "none",
            "reason": f"standby foreign asked by {ME}: this director holds none of them",
            "event": before + 3,
        }
        taken = await served.do(ask, "/v1/takeover", {"hold": "foreign"})
        assert (taken["outcome"], taken["hold"]) == ("refused", "foreign")
    async with serving(pair.b, tmp_path) as served:
        taken = await served.do(ask, "/v1/takeover", {})
        assert (taken["outcome"], taken["hold"]) == ("begun", "foreign")
        assert taken["reason"] == f"takeover all asked by {ME}: asking server40 for foreign resources"
        taken = await served.do(ask, "/v1/takeover", {"hold": "failback"})
        assert (taken["outcome"], taken["hold"]) == ("nothing to do", "none")


async def test_a_daemon_that_ends_begins_nothing(tmp_path: Path) -> None:
    pair = Pair().start()
    async with serving(pair.a, tmp_path) as served:
        pair.now -= SECOND
        with pytest.raises(NotObeyed, match=r"^the daemon is ending; nothing was begun$"):
            await served.do(ask, "/v1/standby", {"hold": "all"})
        assert [type(error) for error in served.crashes] == [InvariantError]


async def test_a_daemon_that_slept_releases_instead(tmp_path: Path) -> None:
    """The request is the first event after the freeze: everything is dropped, and nothing else was begun."""
    pair = Pair().start()
    async with serving(pair.a, tmp_path) as served:
        pair.now += 100 * SECOND
        with pytest.raises(NotObeyed, match=r"^the daemon is ending; nothing was begun$"):
            await served.do(ask, "/v1/standby", {"hold": "all"})
        assert served.core.reasons[-1][2].startswith("stood still for 100")


def outcome(pair: Pair, machine: Machine, verb: str, hold: str) -> tuple[Verdict, int]:
    """Ask the core as the API does, and look every 0.1 s as the command does; the verdict and the tenths it took."""
    kind = ev.StandbyRequested if verb == "standby" else ev.TakeoverRequested
    watch = Watch(verb, hold, machine.generation)
    machine.fold(kind(at=pair.now, hold=hold, by="alice"))
    for tenths in range(2000):
        verdict = watch.look(describe(machine.state, (), now=pair.now), tenths / 10)
        if verdict is not None:
            return verdict, tenths
        pair.run(SECOND // 10)
    raise AssertionError("no verdict")


def test_a_hand_over_that_succeeds() -> None:
    pair = Pair().start()
    assert outcome(pair, pair.a, "standby", "local")[0] == Verdict(
        True, "server19 holds local resources of server40 now"
    )
    assert pair.holders() == [B]
    assert outcome(pair, pair.a, "takeover", "local")[0] == Verdict(True, "server40 holds local resources now")
    assert pair.holders() == [A]


def test_a_peer_that_does_not_answer_an_offer() -> None:
    pair = Pair().start()
    pair.lose = lambda message: message.kind == "ask_resources"
    verdict, tenths = outcome(pair, pair.a, "standby", "local")
    assert verdict == Verdict(False, "the hand-over of local resources ended without success; server40 holds local")
    assert 95 <= tenths <= 105
    assert pair.holders() == [A]


def test_a_peer_that_does_not_offer() -> None:
    pair = Pair().start()
    pair.lose = lambda message: message.kind == "hb_takeover"
    verdict, tenths = outcome(pair, pair.b, "takeover", "foreign")
    assert verdict == Verdict(False, "server19 was not given foreign resources within 10 s, or could not keep them")
    assert tenths == 100
    assert pair.holders() == [A]


def test_a_peer_that_dies_while_it_takes() -> None:
    pair = Pair().start()
    pair.b.silent = lambda action: isinstance(action, act.AddAddress)
    watch = Watch("standby", "local", pair.a.generation)
    pair.a.fold(ev.StandbyRequested(at=pair.now, hold="local", by="alice"))
    pair.until(lambda: pair.a.state.handover.value == "released")
    assert watch.look(describe(pair.a.state, (), now=pair.now), 0.2) is None
    pair.b.power_cut()
    pair.until(lambda: pair.a.state.handover.value == "idle")
    verdict = watch.look(describe(pair.a.state, (), now=pair.now), 30.0)
    assert verdict == Verdict(False, "the hand-over of local resources ended without success; server40 holds all")


@pytest.mark.parametrize("verb", ["standby", "takeover"])
def test_a_group_that_starts_only_on_its_old_director(verb: str) -> None:
    """It comes back faster than the command looks: what counts is who holds it."""
    pair = Pair().start()
    pair.b.refuse = lambda action: isinstance(action, act.AddAddress)
    giver, taker = pair.a, pair.b
    asked, hold = (giver, "local") if verb == "standby" else (taker, "foreign")
    verdict, _ = outcome(pair, asked, verb, hold)
    assert verdict == (
        Verdict(False, "the hand-over of local resources ended without success; server40 holds local")
        if verb == "standby"
        else Verdict(False, "server19 was not given foreign resources within 10 s, or could not keep them")
    )
    assert pair.holders() == [A]


def test_a_group_that_starts_nowhere() -> None:
    """The director that asked keeps it, and says which group and why."""
    pair = Pair().start()
    for machine in (pair.a, pair.b):
        machine.refuse = lambda action: isinstance(action, act.AddAddress)
    pair.b.state.failed_away_at = pair.now  # it was offered to the other director a moment ago
    verdict, _ = outcome(pair, pair.b, "takeover", "foreign")
    key = pair.b.config.groups[0].key
    assert verdict == Verdict(False, f"group {key} does not start: {key}: failed (refused by the test)")


@pytest.mark.parametrize("verb", ["standby", "takeover"])
def test_a_daemon_that_stops_or_starts_anew_meanwhile(verb: str) -> None:
    pair = Pair().start()
    watch = Watch(verb, "local", pair.a.generation)
    ended = Verdict(False, "the daemon of server40 ends or was started anew meanwhile")
    pair.a.fold(ev.StopRequested(at=pair.now, by="SIGTERM"))
    pair.until(lambda: pair.a.state.phase is Phase.GONE)  # it hands over first
    assert watch.look(describe(pair.a.state, (), now=pair.now), 1.0) == ended
    pair.run(5 * SECOND)
    pair.a.start(same_boot=True)
    pair.until(pair.settled)
    assert watch.look(describe(pair.a.state, (), now=pair.now), 1.0) == ended


async def test_who_asks_often_is_not_sent_the_services(tmp_path: Path) -> None:
    async with serving(Pair().start().a, tmp_path) as served:
        whole, part = await served.do(ask, "/v1/status"), await served.do(ask, "/v1/cluster")
        assert [entry["service"] for entry in whole.pop("services")] == ["tcp:192.168.2.232:80"]
        assert whole == part
