"""Times and durations as the report shows them, in one time zone."""

from __future__ import annotations

import datetime

_STEPS_MS = (
    *(1, 2, 5, 10, 20, 50, 100, 200, 500),
    *(1000 * s for s in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200)),
    *(86_400_000 * d for d in (1, 2, 5, 7, 14, 30, 60, 90, 365)),
)


class Zone:
    """Formats times of a report: one zone for all, and the date only where it changes."""

    def __init__(self, zone: datetime.tzinfo | None, from_ns: int, until_ns: int) -> None:
        """Without `zone`: this machine's."""
        begin = datetime.datetime.fromtimestamp(from_ns // 1_000_000_000, datetime.UTC).astimezone(zone)
        self.offset = begin.utcoffset() or datetime.timedelta()
        self._zone = datetime.timezone(self.offset)
        self.one_day = self._at(from_ns).date() == self._at(until_ns).date()

    @property
    def name(self) -> str:
        """`UTC+01:00`."""
        return str(self._zone)

    def _at(self, wall_ns: int) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(wall_ns // 1_000_000_000, self._zone)

    def full(self, wall_ns: int) -> str:
        """`2026-11-24 03:00:00.123`."""
        return f"{self._at(wall_ns):%Y-%m-%d %H:%M:%S}.{wall_ns // 1_000_000 % 1000:03d}"

    def short(self, wall_ns: int) -> str:
        """Without the date if all is on one day."""
        return self.full(wall_ns)[11:] if self.one_day else self.full(wall_ns)

    def machine(self, wall_ns: int) -> str:
        """For `<time datetime=…>`."""
        return (
            self.full(wall_ns).replace(" ", "T") + self.name.removeprefix("UTC")
            if self.offset
            else (self.full(wall_ns).replace(" ", "T") + "Z")
        )

    def ticks(self, from_ns: int, until_ns: int, most: int) -> list[tuple[int, str]]:
        """At most so many round times between two, with their labels."""
        span_ms = max(1, (until_ns - from_ns) // 1_000_000)
        step = next((s for s in _STEPS_MS if span_ms // s < most), span_ms)
        shift = int(self.offset.total_seconds() * 1000)
        first = -(-(from_ns // 1_000_000 + shift) // step) * step - shift
        return [(ms * 1_000_000, self._label(ms * 1_000_000, step)) for ms in range(first, until_ns // 1_000_000, step)]

    def _label(self, wall_ns: int, step_ms: int) -> str:
        if step_ms >= 86_400_000:
            return f"{self._at(wall_ns):%Y-%m-%d}"
        if not self.one_day and step_ms >= 3_600_000:
            return f"{self._at(wall_ns):%m-%d %H:%M}"
        if step_ms >= 60_000:
            return f"{self._at(wall_ns):%H:%M}"
        return self.full(wall_ns)[11:] if step_ms < 1000 else f"{self._at(wall_ns):%H:%M:%S}"


def duration(nanoseconds: int) -> str:
    """`12 ms`, `30.0 s`, `1:23:45`."""
    ms = nanoseconds // 1_000_000
    if ms < 1000:
        return f"{ms} ms"
    if ms < 600_000:
        return f"{ms / 1000:.1f} s"
    return str(datetime.timedelta(seconds=ms // 1000))
