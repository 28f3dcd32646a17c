"""Whatever happened to a pair: its journals explain, merge, and decide again as they did."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings

from hafsm.core.settings import MILLISECOND, SECOND, AutoFailback
from replay.causes import Kind
from replay.findings import find
from replay.graph import build
from replay.history import Moment, files_of, moments
from replay.merge import merge
from replay.pairing import Stop
from replay.parameters import parse
from replay.whatif import compare
from tests.unit_core.pair import Pair
from tests.unit_core.test_chaos_settles import storms, strike
from tests.unit_replay.incidents import Incident, save

OUTSIDE = (Kind.INPUT, Kind.SILENCE, Kind.CHECK, Kind.GAP)
EVENTS_MAX = 4000
OTHERS = ("deadtime=10", "deadtime=90", "deadping=10", "auto_failback=off", "failurecount=3", "quiescent=yes")


def stormy(storm: list[tuple[str, str, int]]) -> Pair:
    pair = Pair(auto_failback=AutoFailback.ON).start()
    for fault, which, after_ms in storm:
        strike(pair, pair.a if which == "a" else pair.b, fault)
        pair.run(after_ms * MILLISECOND)
        if max(len(pair.a.log), len(pair.b.log)) > EVENTS_MAX:
            break
    pair.run(5 * SECOND)
    return pair


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(storm=storms)
def test_a_storm_can_be_explained_merged_and_decided_again(storm: list[tuple[str, str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        incident = save(stormy(storm), Path(folder))
        for path in (incident.a, incident.b):
            every_chain_has_an_end(path)
            the_second_fold_comes_out_where_the_recording_did(path)
        order_follows_cause(incident)


def every_chain_has_an_end(path: Path) -> None:
    graph = build(moments(files_of(path)))
    for node in graph.nodes:
        assert all(cause < node.id for cause in node.causes)
        if node.kind not in OUTSIDE:
            ends = [cause for cause in graph.closure(node) if not cause.causes]
            assert ends and all(end.kind in OUTSIDE for end in ends), node


def the_second_fold_comes_out_where_the_recording_did(path: Path) -> None:
    first = next(item for item in moments(files_of(path)) if isinstance(item, Moment))
    same = compare(moments(files_of(path)), parse([f"deadtime={first.before.settings.deadtime_ns // SECOND}"]))
    assert all(stretch.stop is Stop.END and not stretch.apart for stretch in same.stretches)
    assert same.counted == same.events and same.assumed == 0
    assert all(pairing.recorded == pairing.computed for pairing in same.pairings)
    for word in OTHERS:
        other = compare(moments(files_of(path)), parse([word]))
        assert other.counted <= other.events == same.events


def order_follows_cause(incident: Incident) -> None:
    merged = merge([files_of(incident.a), files_of(incident.b)])
    seen = {side.node: 0 for side in merged.sides}
    marks = {side.node: [mark.seq for mark in side.marks] for side in merged.sides}
    for line in merged.lines:
        (other,) = [name for name in seen if name != line.node]
        assert line.seq > seen[line.node]
        assert all(seq <= seen[other] for seq in marks[other] if seq <= line.follows)
        seen[line.node] = line.seq
    for finding in find(merged):
        assert finding.until_wall_ns >= finding.wall_ns and finding.text
