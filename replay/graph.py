"""A history becomes a graph of causes: one pass, every moment given to the rules of cluster and resources."""

from __future__ import annotations

from collections.abc import Iterable

from hafsm.core.events import DeadlinePassed
from hafsm.core.settings import Settings
from replay import causes_cluster, causes_resources
from replay.causes import Draft, Graph, Kind
from replay.history import Beginning, Crashed, Item, Moment
from replay.subjects import all_of, node

_NOTHING = DeadlinePassed(at=0)
"""Stands in a moment whose event is told by its reason."""


def build(history: Iterable[Item]) -> Graph:
    """The graph of a history. Raises what `history.moments` raises."""
    draft = Draft()
    graph = draft.graph
    for item in history:
        if isinstance(item, Moment):
            graph.first = graph.first or item.seq
            graph.first_wall_ns = graph.first_wall_ns or item.wall_ns
            graph.last, graph.last_wall_ns = item.seq, item.wall_ns
            draft.fresh.clear()
            draft.input = None
            draft.watch.fold(item)
            if item.before.settings is not item.after.settings:
                _know(graph, item.after.settings)
            causes_cluster.fold(draft, item)
            causes_resources.fold(draft, item)
            draft.last = item
        elif isinstance(item, Beginning):
            graph.node = item.node
            _know(graph, item.state.settings)
            draft.begin(item.state)
            if item.state.generation:
                state = item.state
                here = Moment(state.number, state.now, item.wall_ns, item.life, _NOTHING, state, state, (), "")
                draft.lose(Kind.EDGE, here, "the reading began here, in the middle of a life")
        elif isinstance(item, Crashed):
            crash = Moment(
                item.seq, item.at, item.wall_ns, item.life, _NOTHING, item.before, item.before, (), item.reason
            )
            text = f"the daemon on {graph.node} {item.reason}"
            draft.add(crash, Kind.INPUT, text, subjects=(node(graph.node),), anchor="end")
        else:
            graph.lost += item.events
            if draft.last is not None:
                text = f"events after {item.after_seq} are not in the journal: {item.cause}"
                draft.lose(Kind.GAP, draft.last, text)
    return graph


def _know(graph: Graph, settings: Settings) -> None:
    graph.settings = settings
    for name, subjects in all_of(settings).items():
        graph.known[name] = tuple(dict.fromkeys((*graph.known.get(name, ()), *subjects)))
