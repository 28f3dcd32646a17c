"""The rules of cause for real servers: what checks, operators, maintenance files and the configuration made of each.

They mirror `hafsm.core.reals` and `hafsm.core.operators`.
"""

from __future__ import annotations

from hafsm.core.events import CheckResult, ChecksReported, DaemonStarted, KernelObserved, MaintenanceEntry
from hafsm.core.machines import RealState
from hafsm.core.settings import Override, RealServer, RealVerb
from hafsm.core.state import RealView
from replay.causes import Draft, Kind
from replay.causes_input import input_node
from replay.history import Moment
from replay.subjects import Subject, Topic, node, real

_BECOMES = {
    RealState.UP: "gets its weight",
    RealState.QUIESCED: "weight 0, connections finish",
    RealState.REMOVED: "its entry is deleted",
}
_AFTER_CHECK = {
    RealState.UP: "is up: gets its weight",
    RealState.QUIESCED: "is quiesced: weight 0, connections finish",
    RealState.REMOVED: "is removed: its entry is deleted",
}


def remembered(draft: Draft, moment: Moment, event: DaemonStarted) -> None:
    """A new life knows what operators said in earlier ones, or that it does not."""
    if event.memory_trouble:
        text = f"what operators said before is not known: {event.memory_trouble}"
        subjects = (node(moment.after.settings.me),)
        draft.add(moment, Kind.INPUT, text, causes=draft.anchor("start"), subjects=subjects)
    for word in event.overrides:
        if word.verb is not RealVerb.ENABLE:
            subject = Subject(topic=Topic.REAL, name=word.real, service=word.service)
            text = f"{subject}: {word} on {word.node}, remembered from an earlier life"
            draft.add(
                moment, Kind.INPUT, text, causes=draft.anchor("start"), subjects=(subject,), anchor=f"hold {subject}"
            )


def fold(draft: Draft, moment: Moment) -> None:
    """Add what became of real servers."""
    before, after = moment.before, moment.after
    if len(before.reals) != len(after.reals) or after.checks_plan != before.checks_plan:
        _reloaded(draft, moment)
        return
    results: dict[int, CheckResult] = {}
    if isinstance(moment.event, ChecksReported):
        results = {result.check: result for result in moment.event.results}
    for index, (old, new) in enumerate(zip(before.reals, after.reals, strict=True)):
        if old is new:
            continue
        if (old.hold, old.weight, old.maintenance) != (new.hold, new.weight, new.maintenance):
            _told(draft, moment, index, old, new)
        elif old.state is not new.state:
            result = results.get(new.check)
            if result is not None:
                _checked(draft, moment, index, new, result)
            else:
                _moved(draft, moment, new)


def _told(draft: Draft, moment: Moment, index: int, old: RealView, new: RealView) -> None:
    """An operator or a maintenance file said something of it, here or on the other director."""
    settings = moment.after.settings
    server = settings.services[new.service].reals[new.real]
    subject = real(settings, new.service, new.real)
    word = next((o for o in moment.after.overrides if (o.service, o.real) == (subject.service, subject.name)), None)
    said = []
    if word is not None and (old.hold, old.weight) != (new.hold, new.weight):
        said.append(str(word))
    if new.maintenance and not old.maintenance:
        said.append("in maintenance" + _file(server, moment.after.maintenance))
    elif old.maintenance and not new.maintenance:
        said.append("no longer in maintenance" + _file(server, moment.before.maintenance))
    text = f"{subject}: {' and '.join(said) or 'judged anew'}: {_outcome(server, old, new, word)}"
    anchor = f"hold {subject}"
    causes = (input_node(draft, moment), *draft.anchor(anchor))
    draft.anchors["reals"] = draft.add(
        moment, Kind.DECISION, text, causes=causes, subjects=(subject,), anchor=f"real {index}"
    )
    if new.state is RealState.UP:
        draft.anchors.pop(anchor, None)  # nobody's word explains what comes next
    else:
        draft.anchors[anchor] = draft.anchors["reals"]


def _file(server: RealServer, entries: tuple[MaintenanceEntry, ...]) -> str:
    """The file that means it."""
    names = [e.name for e in entries if server.address in e.addresses and e.port in (0, server.port)]
    return f" (file {', '.join(names)})" if names else ""


def _outcome(server: RealServer, old: RealView, new: RealView, word: Override | None) -> str:
    if old.state is not new.state:
        return f"{new.state.value}, {_BECOMES[new.state]}"
    if old.weight != new.weight and new.state is RealState.UP:
        if word is not None and new.weight >= 0:
            return f"weight {new.weight} instead of {server.weight if old.weight < 0 else old.weight}"
        return f"weight {server.weight} again, as in the file"
    return f"stays {new.state.value}"


def _checked(draft: Draft, moment: Moment, index: int, view: RealView, result: CheckResult) -> None:
    settings = moment.after.settings
    service = settings.services[view.service]
    subject = real(settings, view.service, view.real)
    evidence = draft.watch.real_changed(moment, index)
    took = f"{result.duration_us / 1000:.1f} ms"
    if view.state is RealState.UP:
        text = f"the check of {subject.name} passed in {took}"
    else:
        what = f"{view.failures} checks in a row failed" if view.failures > 1 else "the check failed"
        text = f"{what} for {subject.name} (failurecount {service.failurecount}): {result.detail}, after {took}"
    came = draft.add(moment, Kind.CHECK, text, causes=draft.anchor("reload"), evidence=evidence)
    waited = draft.anchors.pop(f"hold {subject}", None)
    text = f"{subject} {_AFTER_CHECK[view.state]}"
    draft.anchors["reals"] = draft.add(
        moment, Kind.DECISION, text, causes=(came, waited), subjects=(subject,), anchor=f"real {index}"
    )


def _moved(draft: Draft, moment: Moment, view: RealView) -> None:
    """Neither a check nor a word: the kernel was looked at, or the file has other rules."""
    subject = real(moment.after.settings, view.service, view.real)
    causes: tuple[int | None, ...] = (draft.input,)
    text = f"{subject} is {view.state.value}"
    if isinstance(moment.event, KernelObserved):
        if moment.before.ipvs.known:
            came = f"no connection is left on {subject.name} of {subject.service}"
            text += ": drained, its entry is deleted"
            causes = (draft.add(moment, Kind.INPUT, came), *draft.anchor(f"hold {subject}"))
        else:
            text += ": an earlier life left it in the IPVS table"
            causes = draft.anchor("start")
    draft.anchors["reals"] = draft.add(moment, Kind.DECISION, text, causes=causes, subjects=(subject,))


def _reloaded(draft: Draft, moment: Moment) -> None:
    """ldirectord.cf was read again: real servers came, went, or kept their health."""
    old = moment.before.settings
    new = moment.after.settings
    was = {real(old, v.service, v.real): v.state for v in moment.before.reals}
    now = {real(new, v.service, v.real): v.state for v in moment.after.reals}
    causes = (draft.input,) if draft.input is not None else draft.anchor("start")
    for subject, state in was.items():
        if subject not in now:
            text = f"{subject} is no longer configured (it was {state.value})"
            draft.anchors["reals"] = draft.add(moment, Kind.DECISION, text, causes=causes, subjects=(subject,))
    for subject, state in now.items():
        if subject not in was or was[subject] is not state:
            text = f"{subject} is {'new' if subject not in was else 'judged anew'} in the configuration: {state.value}"
            draft.anchors["reals"] = draft.add(moment, Kind.DECISION, text, causes=causes, subjects=(subject,))
