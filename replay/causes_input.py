"""The present event itself as a node of the graph, in words."""

from __future__ import annotations

from hafsm.core.events import (
    ActionFinished,
    HeartbeatReceived,
    MessageReceived,
    StandbyRequested,
    StopRequested,
    TakeoverRequested,
)
from replay.causes import Draft, Kind
from replay.history import Moment


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
        case _:
            return f"{who} sent {event.kind}"
