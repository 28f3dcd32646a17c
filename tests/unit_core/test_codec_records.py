"""Every event, action and state survives the journal; what cannot be read is named."""

import pytest

from hafsm import codec
from hafsm.core.settings import SECOND, MailAlert, RealVerb
from hafsm.core.step import step
from tests.unit_core.pair import Pair, act, ev, service


def stormy() -> Pair:
    alert = MailAlert(to=("root",), again_ns=SECOND, smtp="mail")
    pair = Pair(services=(service(alert=alert, fallback_command="/bin/f"),)).start()
    pair.a.report_checks(a31=True, a41=False)
    place = ("tcp:192.168.2.232:80", "192.168.2.31:80")
    word = ev.RealRequested(at=pair.now, verb=RealVerb.DRAIN, targets=(place,), by="alice", wall_ns=1, reason="ü")
    pair.a.fold(word)
    entry = ev.MaintenanceEntry(name="[::1]:80", addresses=("::1",), port=80)
    pair.a.fold(ev.MaintenanceListed(at=pair.now, entries=(entry,), trouble=""))
    pair.run(40 * SECOND)
    pair.a.power_cut()
    pair.run(60 * SECOND)
    pair.a.start()
    pair.until(pair.settled)
    pair.b.fold(ev.StopRequested(at=pair.now, by="SIGTERM"))
    pair.run(5 * SECOND)
    return pair


def test_every_event_and_action_of_a_stormy_hour_survives_its_record() -> None:
    pair = stormy()
    kinds = {type(one) for event, actions in pair.a.log for one in (event, *actions)}
    assert kinds >= {act.SendMail, act.RunFallbackCommand, act.RememberOverrides, ev.RealRequested}
    for machine in (pair.a, pair.b):
        for event, actions in machine.log:
            record = codec.encode_event(event)
            assert codec.decode_event(*record, at=event.at) == event
            for action in actions:
                record = codec.encode_action(action)
                assert codec.decode_action(*record, identity=action.id) == action


def test_a_restored_state_decides_as_the_original_did() -> None:
    machine = stormy().a
    state = codec.decode_state(codec.encode_state(machine.state))
    assert codec.digest_state(state) == codec.digest_state(machine.state)
    event = ev.DeadlinePassed(at=machine.state.now + SECOND)
    assert step(state, event) == step(machine.state, event)


def test_the_time_and_the_id_are_not_stored_twice() -> None:
    assert codec.encode_event(ev.DeadlinePassed(at=5)).payload == "{}"
    assert codec.encode_event(ev.StopRequested(at=5, by="x")) == ("stop_requested", 1, '{"by":"x"}')


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        (("rain_fell", 1, "{}"), "kind 'rain_fell' is not known here: the journal was written by a newer hafsm"),
        (("stop_requested", 2, "{}"), "stop_requested version 2 is newer than this hafsm, which reads up to 1"),
        (("stop_requested", 0, "{}"), "stop_requested version 0 cannot be read any more"),
        (("stop_requested", 1, "{}"), "stop_requested: Object missing required field `by`"),
        (("stop_requested", 1, '{"by":3}'), "stop_requested: Expected `str`, got `int` - at `$.by`"),
    ],
)
def test_records_of_another_hafsm_are_named(record: tuple[str, int, str], complaint: str) -> None:
    with pytest.raises(codec.UnknownRecord) as caught:
        codec.decode_event(*record, at=1)
    assert str(caught.value) == complaint


def test_a_snapshot_of_something_else_is_refused() -> None:
    with pytest.raises(codec.UnknownRecord, match=r"^snapshot: "):
        codec.decode_state('{"number": "x"}')
