"""The five machines: node, phase, hand-over, resource group, real server.

Sources: design section 5; heartbeat 3 resource hand-over in haresources mode (phases INIT, STARTING, RSCRCVD, STABLE,
SHUTDOWN and standby states NOT, ME, OTHER, DONE, whose names stand beside ours); ldirectord for the real servers.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

from hafsm.core.tables import Row, Table, rows


class NodeState(Enum):
    """What a director is, seen from here."""

    INIT = "init"
    STANDBY = "standby"
    ACTIVE = "active"
    DEAD = "dead"


_N = NodeState
_ALIVE = (_N.INIT, _N.STANDBY, _N.ACTIVE)

NODE: Table[NodeState] = Table(
    "node",
    NodeState,
    [
        Row(
            _N.INIT, "joined", _N.STANDBY, "start-up is finished: the other director is stable, or is known to be dead"
        ),
        *rows((_N.STANDBY, _N.ACTIVE), "joined", None, "has joined already"),
        Row(_N.DEAD, "joined", None, "a dead node joins only after it was heard again"),
        Row(_N.STANDBY, "acquired", _N.ACTIVE, "holds at least one resource group"),
        *rows((_N.INIT, _N.ACTIVE, _N.DEAD), "acquired", None, "only a standby becomes active"),
        Row(_N.ACTIVE, "released", _N.STANDBY, "holds no resource group any more"),
        *rows((_N.INIT, _N.STANDBY, _N.DEAD), "released", None, "held nothing"),
        *rows(_ALIVE, "silent", _N.DEAD, "nothing heard on any link for its deadtime"),
        Row(_N.DEAD, "silent", None, "is dead already"),
        *rows(_ALIVE, "goodbye", _N.DEAD, "it said that it has released everything and ends"),
        Row(_N.DEAD, "goodbye", None, "is dead already"),
        Row(_N.DEAD, "returned", _N.INIT, "heard again with a newer generation: a new life"),
        *rows(_ALIVE, "returned", _N.INIT, "a newer generation without a goodbye: it crashed and started again"),
        Row(_N.DEAD, "healed", _N.INIT, "heard again in the same life: the partition is over, both sides settle"),
        *rows(_ALIVE, "healed", None, "was never lost"),
        *rows(
            _ALIVE, "woke", _N.INIT, "this machine stood still for longer than the lease: release first, ask afterwards"
        ),
        Row(_N.DEAD, "woke", None, "ends anyway"),
        *rows(_ALIVE, "lapsed", _N.INIT, "its lease ran out: the VIPs are gone, the other director may hold them"),
        Row(_N.DEAD, "lapsed", None, "ends anyway"),
    ],
)


class Phase(Enum):
    """How far this director has joined the cluster."""

    WAITING = "waiting"
    """heartbeat's INIT: not every node was heard or declared dead."""
    STARTING = "starting"
    """Said `starting`; no answer yet."""
    RECEIVED = "received"
    """RSCRCVD: the other side is there but not stable."""
    STABLE = "stable"
    LEAVING = "leaving"
    """SHUTDOWN: groups are being stopped."""
    GONE = "gone"
    """`shutdone` was sent."""


_P = Phase
_JOINING = (_P.STARTING, _P.RECEIVED)
_ENDING = (_P.LEAVING, _P.GONE)

PHASE: Table[Phase] = Table(
    "phase",
    Phase,
    [
        Row(_P.WAITING, "nodes_known", _P.STARTING, "every director was heard or is known to be dead: say `starting`"),
        *rows((*_JOINING, _P.STABLE, *_ENDING), "nodes_known", None, "only asked while waiting"),
        Row(_P.WAITING, "peer_starting", None, "remembered; no answer before this node has started"),
        *rows(_JOINING, "peer_starting", _P.RECEIVED, "both start at once: answer what is held"),
        Row(_P.STABLE, "peer_starting", None, "answered with what is held; the phase stays"),
        *rows(_ENDING, "peer_starting", None, "this node leaves; `shutdone` says the rest"),
        Row(_P.WAITING, "peer_reported", None, "not asked yet"),
        *rows(_JOINING, "peer_reported", _P.RECEIVED, "the other side answers but still moves resources"),
        *rows((_P.STABLE, *_ENDING), "peer_reported", None, "noted"),
        Row(_P.WAITING, "peer_stable", None, "not asked yet"),
        *rows(_JOINING, "peer_stable", _P.STABLE, "the other side is stable: take the local set unless it holds it"),
        *rows((_P.STABLE, *_ENDING), "peer_stable", None, "noted"),
        Row(_P.WAITING, "both_fresh", None, "not started yet"),
        *rows(_JOINING, "both_fresh", _P.STABLE, "both start and hold nothing: each takes its local set at once"),
        *rows((_P.STABLE, *_ENDING), "both_fresh", None, "this node started earlier"),
        Row(_P.WAITING, "alone", None, "`nodes_known` comes first"),
        *rows(_JOINING, "alone", _P.STABLE, "no other director lives: take everything"),
        *rows((_P.STABLE, *_ENDING), "alone", None, "a stable node's take-over is not a change of phase"),
        *rows(
            _JOINING,
            "answer_overdue",
            _P.STABLE,
            "no stable answer for 10 s, nor any of a hafsm for deadtime: take the local set unless the peer holds it",
        ),
        *rows((_P.WAITING, _P.STABLE, *_ENDING), "answer_overdue", None, "nothing was asked"),
        *rows((_P.WAITING, *_JOINING, _P.STABLE), "stop", _P.LEAVING, "an operator or the system ends the daemon"),
        *rows(_ENDING, "stop", None, "is ending already"),
        Row(_P.LEAVING, "all_stopped", _P.GONE, "every group is stopped: tell the other side, end"),
        *rows((_P.WAITING, *_JOINING, _P.STABLE, _P.GONE), "all_stopped", None, "only asked while leaving"),
    ],
)


class Handover(Enum):
    """A set of groups on its way from one director to the other (heartbeat's standby states)."""

    IDLE = "idle"
    """NOT."""
    ASKED = "asked"
    """ME: offered a set to the peer, nothing released yet."""
    RELEASING = "releasing"
    """ME: the peer agreed; groups are being stopped."""
    RELEASED = "released"
    """DONE of the releaser: the peer is starting them."""
    OFFERED = "offered"
    """OTHER: agreed to take, the peer is stopping them."""
    TAKING = "taking"
    """DONE of the taker: groups are being started."""


_H = Handover
_GIVER = (_H.ASKED, _H.RELEASING, _H.RELEASED)
_TAKER = (_H.OFFERED, _H.TAKING)
_BUSY = (*_GIVER, *_TAKER)


def both_stable(facts: Any) -> bool:
    """both directors are stable"""
    return bool(facts)


HANDOVER: Table[Handover] = Table(
    "hand-over",
    Handover,
    [
        Row(_H.IDLE, "ask", _H.ASKED, "this node wants to give a set away: send `me`", both_stable),
        Row(_H.IDLE, "ask", None, "not while either side is in flux; asked again later"),
        *rows(_BUSY, "ask", None, "one hand-over at a time"),
        Row(_H.IDLE, "peer_me", _H.OFFERED, "the peer wants to give a set away: send `other`", both_stable),
        Row(_H.IDLE, "peer_me", None, "not while either side is in flux; the peer gives up after 10 s"),
        Row(_H.OFFERED, "peer_me", None, "the peer asks again: the answer was lost, it is repeated"),
        *rows((*_GIVER, _H.TAKING), "peer_me", None, "one hand-over at a time"),
        Row(_H.ASKED, "peer_other", _H.RELEASING, "the peer agreed: stop the groups"),
        *rows((_H.IDLE, _H.RELEASING, _H.RELEASED, *_TAKER), "peer_other", None, "nothing was asked"),
        Row(_H.RELEASING, "stopped", _H.RELEASED, "every group of the set is stopped: send `done`"),
        *rows((_H.IDLE, _H.ASKED, _H.RELEASED, *_TAKER), "stopped", None, "nothing is being released"),
        Row(_H.OFFERED, "peer_done", _H.TAKING, "the peer has released: start the groups"),
        Row(_H.RELEASED, "peer_done", _H.IDLE, "the peer has taken the set: finished"),
        *rows((_H.IDLE, _H.ASKED, _H.RELEASING, _H.TAKING), "peer_done", None, "not this node's turn"),
        Row(_H.TAKING, "started", _H.IDLE, "every group of the set is settled: send `done`, finished"),
        *rows((_H.IDLE, *_GIVER, _H.OFFERED), "started", None, "nothing is being taken"),
        Row(_H.RELEASED, "peer_holds", _H.IDLE, "the peer reports the set as its own: its `done` was late or lost"),
        *rows((_H.IDLE, _H.ASKED, _H.RELEASING, *_TAKER), "peer_holds", None, "nothing was released to it"),
        Row(_H.ASKED, "overdue", _H.IDLE, "no answer for 10 s: keep the set"),
        Row(_H.RELEASED, "overdue", _H.IDLE, "the peer never took what it agreed to: take it back"),
        Row(_H.OFFERED, "overdue", _H.IDLE, "the peer never released what it offered: forget it"),
        *rows((_H.IDLE, _H.RELEASING, _H.TAKING), "overdue", None, "groups have deadlines of their own"),
        *rows(_BUSY, "cancel", _H.IDLE, "the peer was lost, or this node leaves"),
        Row(_H.IDLE, "cancel", None, "nothing is under way"),
    ],
)


class GroupState(Enum):
    """A line of haresources on this node."""

    STOPPED = "stopped"
    STARTING = "starting"
    STARTED = "started"
    STOPPING = "stopping"
    LENT = "lent"
    """Scripts are stopped; VIPs and virtual services serve on until the other director has them."""
    FAILED = "failed"
    """A resource did not start; everything else of the group was stopped again."""


_G = GroupState


class Stopped(NamedTuple):
    """The facts that guards of the group's table ask when a group has been stopped."""

    failed: bool
    lending: bool


def start_failed(facts: Any) -> bool:
    """a resource had failed to start"""
    return bool(facts.failed)


def lending(facts: Any) -> bool:
    """both directors are hafsm and move it without a gap"""
    return bool(facts.lending)


GROUP: Table[GroupState] = Table(
    "resource group",
    GroupState,
    [
        Row(_G.STOPPED, "take", _G.STARTING, "this node shall hold it: start from the left"),
        Row(_G.FAILED, "take", _G.STARTING, "30 s after a failure it is tried again"),
        *rows((_G.STARTING, _G.STARTED), "take", None, "is held already"),
        Row(_G.STOPPING, "take", None, "stops to the end first, so that its state is known"),
        Row(_G.LENT, "take", _G.STARTING, "the hand-over is off: start the scripts again"),
        *rows((_G.STARTED, _G.STARTING), "drop", _G.STOPPING, "this node shall not hold it: stop from the right"),
        Row(_G.LENT, "drop", _G.STOPPING, "the other director has it: release what served on"),
        Row(_G.FAILED, "drop", _G.STOPPED, "was stopped when it failed"),
        *rows((_G.STOPPED, _G.STOPPING), "drop", None, "is not held"),
        Row(_G.STARTING, "failed", _G.STOPPING, "a resource did not start: stop what was started"),
        *rows((_G.STOPPED, _G.STARTED, _G.STOPPING, _G.LENT, _G.FAILED), "failed", None, "only a start can fail"),
        Row(_G.STARTING, "finished", _G.STARTED, "the last resource was started"),
        Row(_G.STOPPING, "finished", _G.FAILED, "everything is stopped after a failure", start_failed),
        Row(_G.STOPPING, "finished", _G.LENT, "every script is stopped, what serves was left", lending),
        Row(_G.STOPPING, "finished", _G.STOPPED, "the first resource was stopped"),
        *rows((_G.STOPPED, _G.STARTED, _G.LENT, _G.FAILED), "finished", None, "nothing is under way"),
    ],
)


class RealState(Enum):
    """A real server in one virtual service."""

    REMOVED = "removed"
    UP = "up"
    QUIESCED = "quiesced"


_R = RealState


def enough_failures_quiescent(facts: Any) -> bool:
    """failurecount checks failed in a row, quiescent=yes"""
    return bool(facts.failures >= facts.failurecount and facts.quiescent)


def enough_failures(facts: Any) -> bool:
    """failurecount checks failed in a row, quiescent=no"""
    return bool(facts.failures >= facts.failurecount)


def held(facts: Any) -> bool:
    """an operator or a maintenance file keeps it out"""
    return bool(facts.held)


def left_over(facts: Any) -> bool:
    """quiescent=no, and nobody keeps it out"""
    return not facts.quiescent and not facts.held


def quiescent(facts: Any) -> bool:
    """quiescent=yes"""
    return bool(facts.quiescent)


def draining(facts: Any) -> bool:
    """an operator drains it"""
    return bool(facts.draining)


def healthy(facts: Any) -> bool:
    """its last check passed, and nobody keeps it out"""
    return bool(facts.healthy and not facts.held)


def readd_quiescent(facts: Any) -> bool:
    """quiescent=yes and readdquiescent=yes, and nobody drains it"""
    return bool(facts.quiescent and facts.readd and not facts.draining)


REAL: Table[RealState] = Table(
    "real server",
    RealState,
    [
        Row(_R.REMOVED, "check_passed", None, "stays out until it is enabled or its maintenance ends", held),
        Row(_R.REMOVED, "check_passed", _R.UP, "added with its weight"),
        Row(_R.UP, "check_passed", None, "serves already"),
        Row(_R.QUIESCED, "check_passed", None, "stays at weight 0 until it is enabled or its maintenance ends", held),
        Row(_R.QUIESCED, "check_passed", _R.UP, "gets its weight back"),
        Row(_R.UP, "check_failed", _R.QUIESCED, "weight 0: connections finish", enough_failures_quiescent),
        Row(_R.UP, "check_failed", _R.REMOVED, "entry deleted", enough_failures),
        Row(_R.UP, "check_failed", None, "counted; not failurecount in a row yet"),
        Row(_R.QUIESCED, "check_failed", _R.REMOVED, "entry deleted: it had weight 0 for another reason", left_over),
        *rows((_R.REMOVED, _R.QUIESCED), "check_failed", None, "gets no traffic already"),
        Row(_R.UP, "drained", _R.QUIESCED, "weight 0: connections finish, then the entry is deleted"),
        Row(_R.QUIESCED, "drained", None, "has weight 0 already"),
        Row(_R.REMOVED, "drained", None, "has no entry; passed checks do not bring it back"),
        Row(_R.QUIESCED, "emptied", _R.REMOVED, "no connection is left: entry deleted", draining),
        *rows((_R.REMOVED, _R.UP, _R.QUIESCED), "emptied", None, "only a drained server is removed for that"),
        *rows((_R.REMOVED, _R.UP), "quiesced", _R.QUIESCED, "an operator wants weight 0, and the entry kept"),
        Row(_R.QUIESCED, "quiesced", None, "has weight 0 already"),
        Row(_R.UP, "maintained", _R.QUIESCED, "weight 0: connections finish", quiescent),
        Row(_R.UP, "maintained", _R.REMOVED, "entry deleted"),
        *rows((_R.REMOVED, _R.QUIESCED), "maintained", None, "gets no traffic already"),
        *rows((_R.REMOVED, _R.QUIESCED), "released", _R.UP, "nobody keeps it out any more", healthy),
        Row(_R.QUIESCED, "released", _R.REMOVED, "entry deleted: it is not known to be healthy", left_over),
        *rows((_R.REMOVED, _R.QUIESCED), "released", None, "waits for a check that passes, or is kept out otherwise"),
        Row(_R.UP, "released", None, "serves already"),
        Row(_R.REMOVED, "configured", _R.QUIESCED, "not known to be up: weight 0 until it is", readd_quiescent),
        Row(_R.REMOVED, "configured", None, "absent until a check passes"),
        Row(_R.QUIESCED, "configured", _R.REMOVED, "entry deleted: the file says quiescent=no now", left_over),
        Row(_R.QUIESCED, "configured", None, "keeps weight 0"),
        Row(_R.UP, "configured", None, "keeps its traffic"),
        Row(_R.REMOVED, "found", _R.QUIESCED, "an earlier life left it serving, but it is kept out", held),
        Row(_R.REMOVED, "found", _R.UP, "an earlier life left it serving: it stays until its first check has ended"),
        *rows((_R.UP, _R.QUIESCED), "found", None, "is known already"),
        Row(_R.REMOVED, "found_quiesced", _R.QUIESCED, "an earlier life left it with weight 0"),
        *rows((_R.UP, _R.QUIESCED), "found_quiesced", None, "is known already"),
        *rows((_R.UP, _R.QUIESCED), "dropped", _R.REMOVED, "no longer in the configuration"),
        Row(_R.REMOVED, "dropped", None, "is not in the table"),
    ],
)

ALL: tuple[Table[Any], ...] = (NODE, PHASE, HANDOVER, GROUP, REAL)
