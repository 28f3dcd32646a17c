"""What operators say of real servers: obeyed at once, remembered for later lives, shared with the other director.

The last word on a server wins on both directors: each carries a logical counter, and of equal counters that of the
director first in ha.cf. `enable` is a word too, so that it wins over a drain that the other director still remembers.
"""

from __future__ import annotations

from msgspec.structs import replace

from hafsm.core import reals
from hafsm.core.actions import RememberOverrides
from hafsm.core.events import ActionFinished, MessageReceived, Outcome, RealRequested
from hafsm.core.machines import NodeState
from hafsm.core.settings import SECOND, NodeName, Override, RealVerb, VirtualService
from hafsm.core.state import RealView, State
from hafsm.core.turn import Turn

KIND = "hafsm_real"
"""Our message, sent to a hafsm only."""
INFO_BYTES = 255
"""A text field of a message may not be longer."""
REASON_CHARACTERS = 200
KEPT_AT_MOST = 1000
"""Words of operators that are remembered; the oldest `enable` goes first, and beyond that a new word is refused."""
SHARED_AT_ONCE = 20
SHARE_PAUSE_NS = SECOND
"""All words at once would overrun the other director's socket, and numbers that far apart are not asked for again."""
REMEMBER_LIMIT_NS = 10 * SECOND
REMEMBER_AGAIN_NS = 10 * SECOND

Place = tuple[str, str]
"""(service key, real server key)."""


def begin(turn: Turn, overrides: tuple[Override, ...], fallbacks: tuple[str, ...], trouble: str) -> None:
    """A new life knows what the last one was told."""
    state = turn.state
    state.overrides = overrides
    state.counter = max((override.counter for override in overrides), default=0)
    commanded = {service.key for service in state.settings.services if service.fallback_command}
    state.fallbacks = tuple(key for key in fallbacks if key in commanded)
    for key in fallbacks:
        if key not in commanded:
            turn.say(f"fallbackcommand start of {key} was the last word, and the file has no command to stop it with")
    state.memory_trouble = trouble
    if trouble:
        turn.say(f"what operators decided before is not known: {trouble}")
    in_force = [override for override in overrides if override.verb is not RealVerb.ENABLE]
    if in_force:
        named = ", ".join(f"{o.real} of {o.service} {o}" for o in in_force[: reals.NAMED_AT_MOST])
        more = f" and {len(in_force) - reals.NAMED_AT_MOST} more" if len(in_force) > reals.NAMED_AT_MOST else ""
        turn.say(f"remembered from before: {named}{more}")


def file_changed(turn: Turn, services: tuple[VirtualService, ...]) -> None:
    """An operator's weight ends when the file gives the server another one than it had."""
    state = turn.state
    if not any(override.verb is RealVerb.WEIGHT for override in state.overrides):
        return
    weights = {(service.key, real.key): real.weight for service in services for real in service.reals}
    for override in state.overrides:
        weight = weights.get((override.service, override.real), -1)
        if override.verb is not RealVerb.WEIGHT or weight < 0 or weight == override.configured:
            continue
        if override.configured < 0:
            _keep(turn, replace(override, configured=weight))
            continue
        turn.say(
            f"real server {override.real} of {override.service} has weight {weight} in the file now: the weight "
            f"{override.weight} that {override.by} set ends"
        )
        ended = _word(state, (override.service, override.real), RealVerb.ENABLE, by="ldirectord.cf", wall_ns=0)
        _keep(turn, ended)
        _tell(turn, ended)


# ---- this director's operators


def requested(turn: Turn, event: RealRequested) -> None:
    """Fold an operator's command."""
    changed: dict[int, RealView] = {}
    places = _places(turn.state, event.targets)
    for place in event.targets:
        _requested(turn, event, place, places.get(place), changed)
    reals.commit(turn, changed)


def _requested(turn: Turn, event: RealRequested, place: Place, index: int | None, changed: dict[int, RealView]) -> None:
    state = turn.state
    asked = f"{event.verb.value} asked by {event.by}"
    if event.reason:
        asked += f" ({event.reason})"
    last = next((o for o in state.overrides if (o.service, o.real) == place), None)
    refusal = _refusal(state, event, last, index)
    if refusal:
        turn.say(f"real server {place[1]} of {place[0]}: {asked}: {refusal}")
        return
    word = _word(state, place, event.verb, by=event.by, wall_ns=event.wall_ns)
    word = replace(word, reason=event.reason)
    if event.verb is RealVerb.WEIGHT and index is not None:
        view = state.reals[index]
        configured = state.settings.services[view.service].reals[view.real].weight
        word = replace(word, weight=event.weight, configured=configured)
    _keep(turn, word)
    _tell(turn, word)
    _obey(turn, word, index, asked, changed)


def _refusal(state: State, event: RealRequested, last: Override | None, index: int | None) -> str:
    """Why a command changes nothing; empty: it does."""
    verb = RealVerb.ENABLE if last is None else last.verb
    if index is None and (event.verb is not RealVerb.ENABLE or last is None):
        return "refused, no such real server is configured"
    if event.verb is RealVerb.ENABLE and verb is RealVerb.ENABLE:
        return "nothing to do, its checks and the file decide already"
    if event.verb is RealVerb.WEIGHT and verb in (RealVerb.DRAIN, RealVerb.QUIESCE):
        return f"refused, it is {last}: enable it first"
    if last is not None and event.verb is verb and (verb is not RealVerb.WEIGHT or last.weight == event.weight):
        return f"nothing to do, it is {last} already" if verb is not RealVerb.WEIGHT else f"nothing to do, {last}"
    in_force = sum(override.verb is not RealVerb.ENABLE for override in state.overrides)
    if last is None and in_force >= KEPT_AT_MOST:
        return f"refused, {KEPT_AT_MOST} words of operators are in force already: enable some"
    return ""


def _word(state: State, place: Place, verb: RealVerb, *, by: str, wall_ns: int) -> Override:
    """A new last word."""
    return Override(
        service=place[0],
        real=place[1],
        verb=verb,
        counter=state.counter + 1,
        node=state.settings.me,
        wall_ns=wall_ns,
        by=by,
    )


def _obey(turn: Turn, word: Override, index: int | None, what: str, changed: dict[int, RealView]) -> None:
    if index is None:
        turn.say(f"real server {word.real} of {word.service}: {what}: remembered, it is not configured now")
        return
    state = turn.state
    view = state.reals[index]
    service = state.settings.services[view.service]
    real = service.reals[view.real]
    after = reals.overridden(service, view, word, state.now)
    changed[index] = after
    if word.verb is RealVerb.WEIGHT:
        turn.say(f"real server {real.key} of {service.key}: {what}: weight {word.weight} instead of {real.weight}")
        return
    reals.told(turn, service, real, view, after, what)


def _places(state: State, wanted: tuple[Place, ...]) -> dict[Place, int]:
    """Where the configured ones among these are in `State.reals`."""
    services: dict[str, dict[tuple[str, str], Place]] = {}
    for place in wanted:
        address, _, port = place[1].rpartition(":")
        services.setdefault(place[0], {})[address.strip("[]"), port] = place
    found: dict[Place, int] = {}
    position = 0
    for service in state.settings.services:
        for (address, port), place in services.get(service.key, {}).items():
            for offset, real in enumerate(service.reals):
                if real.address == address and str(real.port) == port:
                    found[place] = position + offset
                    break
        position += len(service.reals)
    return found


def _keep(turn: Turn, word: Override) -> None:
    state = turn.state
    others = [o for o in state.overrides if (o.service, o.real) != (word.service, word.real)]
    if len(others) >= KEPT_AT_MOST:
        oldest = min((o for o in others if o.verb is RealVerb.ENABLE), key=lambda o: o.counter, default=None)
        others = [o for o in others if o is not oldest]
    state.overrides = tuple(sorted((*others, word), key=lambda o: (o.service, o.real)))
    state.counter = max(state.counter, word.counter)
    _unsaved(turn)


def _unsaved(turn: Turn) -> None:
    turn.state.unsaved = True
    turn.errands = True


# ---- the other director


def _tell(turn: Turn, word: Override) -> None:
    peer = turn.state.peer
    if peer is not None and peer.state is not NodeState.DEAD and peer.behaviour:
        turn.send(KIND, (("info", packed(word, turn.state.settings.nodes)),), dest=peer.name)


def share(turn: Turn) -> None:
    """Tell a director that joins, or is back after a partition, everything; some now, the rest in turn."""
    turn.state.share_next = 0
    _share_some(turn)


def _share_some(turn: Turn) -> None:
    state = turn.state
    end = state.share_next + SHARED_AT_ONCE
    for word in state.overrides[state.share_next : end]:
        _tell(turn, word)
    more = end < len(state.overrides)
    state.share_next = end if more else 0
    state.share_at = state.now + SHARE_PAUSE_NS if more else 0
    turn.errands = True


def heard(turn: Turn, event: MessageReceived) -> None:
    """Fold the other director's word; an older one is answered with the newer."""
    state = turn.state
    word = unpacked(event.info, state.settings.nodes)
    if word is None:
        turn.say(f"{event.node} says something of a real server that is not understood: {event.info!r}")
        return
    own = next((o for o in state.overrides if (o.service, o.real) == (word.service, word.real)), None)
    nodes = state.settings.nodes
    if own is not None and _rank(own, nodes) >= _rank(word, nodes):
        if _rank(own, nodes) > _rank(word, nodes):
            _tell(turn, own)
        return
    index = _places(state, ((word.service, word.real),)).get((word.service, word.real))
    if word.verb is RealVerb.WEIGHT and index is not None:
        view = state.reals[index]
        word = replace(word, configured=state.settings.services[view.service].reals[view.real].weight)
    _keep(turn, word)
    changed: dict[int, RealView] = {}
    _obey(turn, word, index, f"{word}, as {event.node} tells", changed)
    reals.commit(turn, changed)


def _rank(word: Override, nodes: tuple[NodeName, ...]) -> tuple[int, int]:
    return word.counter, -nodes.index(word.node)


def packed(word: Override, nodes: tuple[NodeName, ...]) -> str:
    """One text field: counter, node's number in ha.cf, verb, weight, seconds of wall time, by, service, real, reason,
    with a bar between them. The reason is cut to what fits."""
    by = word.by.replace("|", "/")[:40]
    numbers = (word.counter, nodes.index(word.node), word.verb.value, word.weight, word.wall_ns // SECOND)
    head = "|".join((*map(str, numbers), by, word.service, word.real, ""))
    room = INFO_BYTES - len(head.encode())
    return head + word.reason.replace("|", "/").encode()[: max(room, 0)].decode(errors="ignore")


def unpacked(info: str, nodes: tuple[NodeName, ...]) -> Override | None:
    """None for what is not one."""
    parts = info.split("|")
    if len(parts) != 9:
        return None
    try:
        counter, node, weight, wall_s = (int(parts[i]) for i in (0, 1, 3, 4))
        verb = RealVerb(parts[2])
    except ValueError:
        return None
    if counter < 1 or not 0 <= node < len(nodes) or not 0 <= weight < 2**31 or not parts[6] or not parts[7]:
        return None
    return Override(
        service=parts[6],
        real=parts[7],
        verb=verb,
        counter=counter,
        node=nodes[node],
        wall_ns=wall_s * SECOND,
        by=parts[5],
        reason=parts[8],
        weight=weight,
    )


# ---- for later lives


def remember(turn: Turn) -> None:
    """Have what changed written down; one request at a time."""
    state = turn.state
    if not state.unsaved or state.remember_action or state.now < state.remember_at:
        return
    state.unsaved = False
    state.remember_action = turn.do(RememberOverrides, overrides=state.overrides, fallbacks=state.fallbacks)
    state.remember_at = state.now + REMEMBER_LIMIT_NS
    turn.errands = True


def remembered(turn: Turn, event: ActionFinished) -> None:
    """Fold the end of a RememberOverrides; what could not be written is tried again."""
    state = turn.state
    state.remember_action = 0
    turn.errands = True
    if event.outcome is Outcome.DONE:
        if state.memory_trouble:
            turn.say("what operators decide is remembered again")
        state.memory_trouble = ""
        state.remember_at = 0
        return
    trouble = event.detail or event.outcome.value
    if trouble != state.memory_trouble:
        turn.say(f"what operators decided would not survive a restart: {trouble}")
    state.memory_trouble = trouble
    state.remember_at = state.now + REMEMBER_AGAIN_NS
    state.unsaved = True


def pass_deadlines(turn: Turn) -> None:
    """A disk that hangs is asked again; more words for the other director."""
    state = turn.state
    if state.share_at and state.now >= state.share_at:
        _share_some(turn)
    if state.remember_action and state.now >= state.remember_at:
        remembered(turn, ActionFinished(at=state.now, action=state.remember_action, outcome=Outcome.TIMED_OUT))
