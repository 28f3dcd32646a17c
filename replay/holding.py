"""When a director had a VIP in its kernel, as far as its journal shows.

A VIP is there from the result of adding it to the result of removing it. When a life ends without removing it, the
kernel keeps it at most until its lease ends, or until the machine boots; what the next life finds, or the VIP's absence
there, is certain again.
"""

from __future__ import annotations

from hafsm.core.actions import AddAddress, RemoveAddress, RenewAddresses
from hafsm.core.events import ActionFinished, KernelObserved, Outcome
from hafsm.core.settings import SECOND, Address, Value
from replay.history import Moment


class Span(Value, frozen=True):
    """One director had one VIP."""

    node: str
    vip: str
    from_seq: int
    from_at: int
    from_wall_ns: int
    until_at: int
    until_wall_ns: int
    certain: bool
    """The end was seen. Otherwise: it was there when the journal (or that life) ends, and at most until `until_at`."""
    seen_at: int
    """The last moment at which it is known to have been there."""


class _Open:
    def __init__(self, moment: Moment, lease_ns: int) -> None:
        self.moment = moment
        self.lease_until = moment.at + lease_ns
        self.seen_at = moment.at


class Holdings:
    """Fold every moment; `spans` are complete after `finish`."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._open: dict[Address, _Open] = {}
        self._pending: dict[int, AddAddress | RemoveAddress | RenewAddresses] = {}
        self._last: Moment | None = None

    def fold(self, moment: Moment) -> None:
        """Note what this moment shows."""
        if self._last is not None and moment.life != self._last.life:
            self._pending.clear()
            self._see_all(self._last.at)
            if not moment.after.same_boot:
                self._booted(moment)
        self._last = moment
        event = moment.event
        if isinstance(event, ActionFinished):
            self._finished(moment, event)
        elif isinstance(event, KernelObserved):
            for address in list(self._open):
                if address not in event.addresses:
                    self._close(address, moment)
            for address in event.addresses:
                self._seen(address, moment, 0)
        for action in moment.actions:
            if isinstance(action, AddAddress | RemoveAddress | RenewAddresses):
                self._pending[action.id] = action

    def finish(self) -> list[Span]:
        """The journal ends here."""
        if self._last is not None:
            self._see_all(self._last.at)
            for address in list(self._open):
                self._close(address, None)
        return self.spans

    def _see_all(self, at: int) -> None:
        """A life ends: until then it would have noticed, or put back, what somebody removed."""
        for span in self._open.values():
            span.seen_at = max(span.seen_at, min(at, span.lease_until))

    def _booted(self, moment: Moment) -> None:
        """The machine started anew: its kernel has no VIP, and its monotonic clock began again at zero."""
        for address, span in list(self._open.items()):
            booted_at = span.moment.at + max(0, moment.wall_ns - span.moment.wall_ns)
            span.lease_until = min(span.lease_until, booted_at)
            self._close(address, None)

    def _finished(self, moment: Moment, event: ActionFinished) -> None:
        action = self._pending.pop(event.action, None)
        if action is None or event.outcome is not Outcome.DONE:
            return
        match action:
            case AddAddress():
                self._seen(action.address, moment, action.lease_s * SECOND)
            case RemoveAddress():
                self._close(action.address, moment)
            case RenewAddresses():
                for address in action.addresses:
                    if address in event.missing:
                        self._close(address, moment)
                    else:
                        self._seen(address, moment, action.lease_s * SECOND)

    def _seen(self, address: Address, moment: Moment, lease_ns: int) -> None:
        span = self._open.get(address)
        if span is None:
            self._open[address] = _Open(moment, lease_ns)
            return
        span.seen_at = moment.at
        span.lease_until = max(span.lease_until, moment.at + lease_ns)

    def _close(self, address: Address, moment: Moment | None) -> None:
        span = self._open.pop(address, None)
        if span is None:
            return
        began = span.moment
        # A VIP that was removed while nobody looked was there at most until its lease ended.
        until = span.lease_until if moment is None else min(moment.at, span.lease_until)
        certain = moment is not None and moment.life == began.life and moment.at <= span.lease_until
        self.spans.append(
            Span(
                node=began.before.settings.me,
                vip=str(address),
                from_seq=began.seq,
                from_at=began.at,
                from_wall_ns=began.wall_ns,
                until_at=until,
                until_wall_ns=began.wall_ns + until - began.at,
                certain=certain,
                seen_at=min(span.seen_at, until),
            )
        )
