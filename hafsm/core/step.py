"""`step(state, event) -> Decision`: the whole of what hafsm decides, as one pure function.

Order within a step: a freeze is noticed first; then the event is folded; then everything whose time has come (an event
in the socket's queue counts before the silence that it ends); then what follows from both, until nothing moves; last
the report to the peer.
"""

from __future__ import annotations

from msgspec.structs import replace

from hafsm.core import (
    alerts,
    balance,
    fallbacks,
    groups,
    handover,
    ipfail,
    membership,
    operators,
    reals,
    standby,
)
from hafsm.core.actions import Exit, ProgramIpvs, RemoveAddress
from hafsm.core.events import (
    ActionFinished,
    CheckerLost,
    ChecksReported,
    DaemonStarted,
    DatagramsRefused,
    DeadlinePassed,
    Event,
    HeartbeatReceived,
    JournalGapped,
    JournalLagged,
    JournalTroubled,
    KernelObserved,
    LinkChanged,
    MaintenanceListed,
    MessageReceived,
    PingAnswered,
    RealRequested,
    ReloadRefused,
    ServicesReloaded,
    StandbyRequested,
    StopRequested,
    TakeoverRequested,
)
from hafsm.core.ipvs import difference
from hafsm.core.machines import NODE, NodeState, Phase
from hafsm.core.state import Holding, Peer, State
from hafsm.core.turn import Decision, Turn, seconds
from hafsm.errors import InvariantError

_GONE, _STABLE, _DEAD = Phase.GONE, Phase.STABLE, NodeState.DEAD
MOVES_LIMIT = 100
"""More moves than this in one step mean two rules that undo each other."""


def step(state: State, event: Event) -> Decision:
    """Fold one event. `state` is left as it was.

    Raises `InvariantError` for an event that cannot be: time running backwards, or a rule that contradicts another.
    """
    at = event.at
    if at < state.now:
        raise InvariantError(f"event {state.number + 1} is stamped {at}, before {state.now}")
    turn = Turn(replace(state, number=state.number + 1, now=at))
    if type(event) is not DaemonStarted:
        if state.phase is _GONE or not state.generation:
            return turn.decision()  # nothing is decided after a life, nor before it
        if at - state.now > state.settings.lease_ns and _woke(turn, at - state.now):
            return turn.decision()
    _fold(turn, event)
    after = turn.state
    if 0 < after.leased_until <= at and groups.lapsed(turn):
        _start_anew(turn, "lapsed", f"no VIP could be renewed for {seconds(state.settings.lease_ns)}, its whole lease")
        return turn.decision()
    calm = at < state.due and not (turn.moved or turn.report_now or turn.errands or turn.count_pings)
    if calm and after.phase is state.phase:
        if not _due_stays(state, after, event):
            after.due = next_deadline(after)
        return turn.decision()
    if turn.count_pings:
        ipfail.send_count(turn)
    if at >= state.due:
        _pass_time(turn)
    moves = 0
    while turn.moved:
        turn.moved = False
        groups.advance(turn)
        balance.reconcile(turn)
        fallbacks.progress(turn)
        handover.progress(turn)
        moves += 1
        if moves > MOVES_LIMIT:
            raise InvariantError(f"event {turn.state.number}: the rules do not come to rest")
    if moves or at >= state.due:
        membership.remind(turn)
        ipfail.fetch_home(turn)
    if moves or turn.report_now:
        standby.report(turn)
    if turn.state.phase is _STABLE and state.phase is not _STABLE:
        operators.share(turn)  # the other director told its words when it heard of this life; it does not know these
    if turn.errands:
        operators.remember(turn)
        turn.state.errands_at = _errands_deadline(turn.state)
    turn.state.due = next_deadline(turn.state)
    return turn.decision()


def _due_stays(before: State, after: State, event: Event) -> bool:
    """Whether the nearest deadline is the one from before, which need not be looked for among all then.

    So it is when all that an event did was to put off a deadline that was not the nearest.
    """
    if before.failback_due:  # the one deadline that depends on the time now
        return False
    if type(event) is ChecksReported:
        return after.reals is before.reals
    if type(event) is PingAnswered:
        for was, now in zip(before.pings, after.pings, strict=True):
            if was is not now:
                return was.alive and was.heard_at + before.settings.deadping_ns > before.due
        return True
    if type(event) is HeartbeatReceived:
        peer, heard = before.peer, after.peer
        if peer is None or heard is None or peer.missing or heard.missing or peer.state is not heard.state:
            return False
        known = peer.heard_at > 0 and peer.state is not _DEAD
        return known and min(peer.heard_at + peer.deadtime_ns, heard.heard_at + heard.deadtime_ns) > before.due
    return False


def _fold(turn: Turn, event: Event) -> None:
    # Nine of ten events are one of these; a case of `match` costs several times as much.
    if type(event) is DeadlinePassed:
        return
    if type(event) is PingAnswered:
        if membership.ping_answered(turn, event):
            ipfail.send_count(turn)
    elif type(event) is HeartbeatReceived:
        if membership.heartbeat(turn, event):
            handover.peer_renewed(turn)
            if turn.peer.healed:
                operators.share(turn)
    elif type(event) is ChecksReported:
        reals.checked(turn, event)
    else:
        _fold_rare(turn, event)


def _fold_rare(turn: Turn, event: Event) -> None:
    match event:
        case MessageReceived():
            _message(turn, event)
        case ActionFinished():
            _finished(turn, event)
        case KernelObserved():
            balance.observed(turn, event)
        case DaemonStarted():
            _started(turn, event)
        case StopRequested():
            handover.stop(turn, event.by)
        case StandbyRequested():
            standby.requested(turn, event)
        case TakeoverRequested():
            standby.takeover_requested(turn, event)
        case RealRequested():
            operators.requested(turn, event)
        case MaintenanceListed():
            reals.maintenance_listed(turn, event)
        case ServicesReloaded():
            balance.reloaded(turn, event)
        case ReloadRefused():
            turn.state.reload_trouble = event.detail
            turn.say(f"ldirectord.cf was not taken, the last good one stays: {event.detail}")
        case CheckerLost():
            turn.say(f"checker {event.worker} was lost and is replaced: {event.detail}")
        case LinkChanged():
            name = turn.state.settings.links[event.link]
            turn.say(f"sending on {name} " + ("works again" if event.working else f"fails: {event.detail}"))
        case DatagramsRefused():
            counts = dict(turn.state.refused)
            for reason, count in event.counts:
                counts[reason] = counts.get(reason, 0) + count
            turn.state.refused = tuple(sorted(counts.items()))
        case JournalLagged():
            turn.say(f"the journal took {seconds(event.waited_ns)}: event {event.number} did not wait for it")
        case JournalGapped():
            turn.say(f"the journal lost events {event.first} to {event.last}: {event.detail}")
        case JournalTroubled():
            turn.state.journal_trouble = event.detail
            turn.say(f"journal: {event.detail}" if event.detail else "the journal is written again")


def _started(turn: Turn, event: DaemonStarted) -> None:
    """A new life: nothing of the last one is believed, what it left is stopped first."""
    state = turn.state
    fresh = State(
        settings=state.settings,
        number=state.number,
        now=event.at,
        next_action=state.next_action,
        started_at=event.at,
        same_boot=event.same_boot,
        generation=event.generation,
        beat_at=event.at,
        peer=state.peer,
        pings=state.pings,
        journal_trouble=state.journal_trouble,
    )
    turn.state = fresh
    turn.say(f"hafsm {event.version} starts as {state.settings.me}, generation {event.generation}")
    membership.beat(turn)
    balance.observe(turn)
    operators.begin(turn, event.overrides, event.fallbacks, event.memory_trouble)
    operators.file_changed(turn, fresh.settings.services)
    reals.plan(turn, fresh.settings.services, reload=False)
    groups.prepare(turn)


def _woke(turn: Turn, gap: int) -> bool:
    """The machine or the daemon stood still for longer than the lease; True if this life has to end."""
    state = turn.state
    settings = state.settings
    if state.mine is Holding.NONE and gap <= settings.deadtime_ns:
        # Nothing was promised meanwhile: only the others' silence must not be held against them.
        if state.peer is not None and state.peer.heard_at:
            turn.change_peer(heard_at=state.now)
        state.pings = tuple(replace(ping, heard_at=state.now) for ping in state.pings)
        turn.say(f"stood still for {seconds(gap)}")
        return False
    _start_anew(turn, "woke", f"stood still for {seconds(gap)} (lease {seconds(settings.lease_ns)})")
    return True


def _start_anew(turn: Turn, trigger: str, why: str) -> None:
    """Release everything without waiting for anything, and end this life for a new one."""
    state = turn.state
    turn.say(f"{why}: releasing {state.mine.value} resources and starting anew")
    for group in state.settings.groups:
        for resource in group.resources:
            if resource.address is not None:
                turn.do(RemoveAddress, address=resource.address)
    operations = difference(balance.staying_table(state), state.ipvs.seen)
    if operations:
        turn.do(ProgramIpvs, operations=operations)
    state.mine = Holding.NONE
    state.held = ()
    state.node = NODE.fire(state.node, trigger)
    state.phase = Phase.GONE
    state.due = 0
    turn.do(Exit, reason=why, restart=True)


def _message(turn: Turn, event: MessageReceived) -> None:
    news = membership.message(turn, event)
    if news is membership.News.STALE:
        return
    if news is membership.News.HEALED:
        handover.peer_renewed(turn)
        operators.share(turn)
    match event.kind:
        case "NS_rexmit":
            membership.resend(turn, event)
        case "NS_nak_rexmit":
            membership.refused(turn, event)
        case "shutdone" | "NS_goodbye":
            membership.farewell(turn)
            word = "its supervisor says it crashed" if event.kind == "NS_goodbye" else "said goodbye"
            handover.peer_died(turn, f"{event.node} {word} and has released everything", released=True)
        case "num_ping_nodes" | "you_are_dead" | "abort_giveup":
            ipfail.message(turn, event)
        case operators.KIND:
            operators.heard(turn, event)
        case _:
            handover.message(turn, event)
            if event.kind == "starting":
                operators.share(turn)


def _finished(turn: Turn, event: ActionFinished) -> None:
    state = turn.state
    if event.action == state.ipvs.pending:
        balance.programmed(turn, event)
    elif event.action == state.renew_action:
        groups.renewed(turn, event)
    elif event.action == state.observe_action:
        balance.observation_failed(turn, event)
    elif event.action == state.fence_action:
        if membership.fenced(turn, event):
            handover.take_over(turn, "")
    elif event.action == state.remember_action:
        operators.remembered(turn, event)
    elif fallbacks.finished(turn, event):
        pass
    elif not groups.finished(turn, event) and event.outcome.value != "done":
        turn.say(f"action {event.action} {event.outcome.value}: {event.detail}")


def _pass_time(turn: Turn) -> None:
    """Everything whose deadline has come."""
    state = turn.state
    now = state.now
    if now >= state.beat_at:
        membership.beat(turn)
    if state.peer is not None:
        _pass_time_of_peer(turn)
    if membership.pings_silent(turn):
        ipfail.send_count(turn)
    if 0 < state.give_up_at <= now:
        ipfail.give_up(turn)
    if state.phase is not _STABLE:
        handover.answer_overdue(turn)
    if 0 < state.stop_deadline <= now:
        handover.stop_overdue(turn)
    balance.pass_deadlines(turn)
    if 0 < state.errands_at <= now:
        alerts.pass_deadlines(turn)
        fallbacks.pass_deadlines(turn)
        operators.pass_deadlines(turn)
        turn.errands = True
    groups.pass_deadlines(turn)
    if state.held and now >= state.renew_at:
        groups.renew(turn)


def _pass_time_of_peer(turn: Turn) -> None:
    state = turn.state
    now = state.now
    if 0 < membership.silence_deadline(state) <= now:
        handover.peer_died(turn, membership.silence(turn), released=False)
    if turn.peer.missing and now >= turn.peer.ask_again_at:
        membership.ask_for_missing(turn)
    membership.watch_links(turn)
    if 0 < state.fence_deadline <= now:
        membership.fence(turn)
    if 0 < state.handover_deadline <= now:
        standby.overdue(turn)
    asked = state.phase is Phase.WAITING and 0 < state.nodes_ask_again_at <= now and turn.peer.state is not _DEAD
    fails_back = state.failback_due and now >= state.failback_again_at
    turn.moved = turn.moved or asked or fails_back or 0 < state.answer_at <= now


def _errands_deadline(state: State) -> int:
    """The nearest deadline of mail, fallback commands and what is remembered; 0: none."""
    dues = [command.deadline for command in state.commands]
    dues += [due for due, _ in state.reminders[:1]]
    dues += [due for due in (state.alerts_at, state.remember_at, state.share_at) if due]
    return min(dues, default=0)


def next_deadline(state: State) -> int:
    """The nearest of all deadlines; 0: none, the daemon has ended or not begun."""
    if state.phase is _GONE or not state.generation:
        return 0
    peer = state.peer
    nearest = min(
        filter(
            None,
            (
                state.beat_at,
                state.observe_at,
                state.renew_at,
                state.ipvs.deadline,
                state.ipvs.retry_at,
                state.fence_deadline,
                state.handover_deadline,
                state.answer_at,
                state.give_up_at,
                state.fetch_home_at,
                state.remind_at,
                state.stop_deadline,
                state.errands_at,
                0 if peer is None or peer.state is _DEAD else _peer_deadline(state, peer),
                0 if state.phase is _STABLE else handover.join_deadline(state),
            ),
        )
    )
    for ping in state.pings:
        if ping.alive:
            due = ping.heard_at + state.settings.deadping_ns
            if due < nearest:
                nearest = due
    for group in state.groups:
        due = group.deadline or group.retry_at
        if due and due < nearest:
            nearest = due
    return nearest


def _peer_deadline(state: State, peer: Peer) -> int:
    nearest = peer.heard_at + peer.deadtime_ns if peer.heard_at else membership.silence_deadline(state)
    if peer.missing:
        nearest = min(nearest, peer.ask_again_at)
    if state.nodes_ask_again_at and state.phase is Phase.WAITING:
        nearest = min(nearest, state.nodes_ask_again_at)
    if state.failback_due and peer.stable:
        nearest = min(nearest, max(state.failback_again_at, state.now + handover.FAILBACK_AGAIN_NS))
    return nearest
