"""The present event itself as a node of the graph, in words."""

from __future__ import annotations

import datetime

from hafsm.core import operators
from hafsm.core.events import (
    ActionFinished,
    HeartbeatReceived,
    MaintenanceListed,
    MessageReceived,
    RealRequested,
    StandbyRequested,
    StopRequested,
    TakeoverRequested,
)
from hafsm.core.settings import SECOND, RealVerb
from replay.causes import Draft, Kind
from replay.history import Moment

FILES_NAMED = 5


def input_node(draft: Draft, moment: Moment) -> int:
    """The node of the event itself, made when it is first asked for."""
    if draft.input is not None:
        return draft.input
    event = moment.event
    me = moment.before.settings.me
    match event:
        case HeartbeatReceived():
            link = moment.before.settings.links[event.link] if moment.before.settings.links else "?"
            life = f"generation {event.generation}, message {event.sequence}"
            text = f"heartbeat of {event.node} came on {link} (status {event.status}, {life})"
        case MessageReceived():
            text = _message_text(moment, event)
        case StandbyRequested():
            text = f"{event.by} asked {me} to give {event.hold} resources away"
        case TakeoverRequested():
            text = f"{event.by} asked {me} to get {event.hold} resources"
        case RealRequested():
            text = _request_text(me, event)
        case MaintenanceListed():
            text = _maintenance_text(moment, event)
        case StopRequested():
            text = f"{me} was told to stop: {event.by}"
        case ActionFinished():
            detail = f" ({event.detail})" if event.detail else ""
            text = f"action {event.action} ended: {event.outcome.value}{detail}"
        case _:
            text = f"{type(event).__name__}"
    draft.input = draft.add(moment, Kind.INPUT, text)
    return draft.input


def _message_text(moment: Moment, event: MessageReceived) -> str:
    who = event.node
    match event.kind:
        case "shutdone":
            return f"{who} said that it has released everything and ends"
        case "NS_goodbye":
            return f"{who}'s supervisor said that the daemon crashed and its VIPs are released"
        case "resource":
            words = f", {'stable' if event.stable else 'not stable'}" if event.stable is not None else ""
            hold = event.hold if event.hold not in ("", "none") else "no"
            return f"{who} reported that it holds {hold} resources{words}"
        case "ask_resources":
            what = {"me": "offered", "other": "agreed to take", "done": "is done with"}.get(event.info, event.info)
            return f"{who} {what} {event.hold} resources"
        case "hb_takeover":
            return f"{who} asked for {event.hold} resources"
        case "num_ping_nodes":
            return f"{who} said that it sees {event.count} ping nodes"
        case "you_are_dead":
            return f"{who} said that it sees more ping nodes than this director"
        case "starting":
            return f"{who} said that it is starting"
        case operators.KIND:
            return _word_text(moment, event)
        case _:
            return f"{who} sent {event.kind}"


def _request_text(me: str, event: RealRequested) -> str:
    services = dict.fromkeys(service for service, _ in event.targets)
    what = event.targets[0][1] if len(event.targets) == 1 else f"{len(event.targets)} real servers"
    verb = f"give weight {event.weight} to" if event.verb is RealVerb.WEIGHT else event.verb.value
    reason = f" ({event.reason})" if event.reason else ""
    return f"{event.by} asked {me} to {verb} {what} of {' and '.join(services)}{reason}"


def _word_text(moment: Moment, event: MessageReceived) -> str:
    """The other director passes on what its operator said, or what it remembers of that."""
    word = operators.unpacked(event.info, moment.before.settings.nodes)
    if word is None:
        return f"{event.node} said something of a real server that is not understood"
    when = f" at {utc(word.wall_ns)}" if word.wall_ns else ""
    return f"{event.node} told: {word.real} of {word.service} {word} on {word.node}{when}"


def utc(wall_ns: int) -> str:
    """A moment for people, the same on every machine; the seconds are the sender's."""
    return f"{datetime.datetime.fromtimestamp(wall_ns // SECOND, datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"


def _maintenance_text(moment: Moment, event: MaintenanceListed) -> str:
    was = {entry.name: entry for entry in moment.before.maintenance}
    now = {entry.name: entry for entry in event.entries}
    changes = [f"file {name} came" for name in sorted(now.keys() - was.keys())]
    changes += [f"file {name} is gone" for name in sorted(was.keys() - now.keys())]
    changes += [
        f"the name {name} resolves otherwise" for name in sorted(was.keys() & now.keys()) if was[name] != now[name]
    ]
    shown = ", ".join(changes[:FILES_NAMED]) + (
        f" and {len(changes) - FILES_NAMED} more" if changes[FILES_NAMED:] else ""
    )
    return f"{moment.before.settings.me}'s maintenance folder: {shown or 'nothing new'}"
