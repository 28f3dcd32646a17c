"""The lanes of a report as SVG: complete without script; report.js lays it out again when it is zoomed.

Every shape that stands for time carries `data-a` and `data-b`, milliseconds since the report's beginning; x is computed
from them here, for paper, and there, for the window.
"""

from __future__ import annotations

from itertools import groupby
from xml.etree.ElementTree import Element

from hafsm.web.markup import add, h
from hafsm.web.times import Zone, duration
from replay.report import Decision, Report, Weight
from replay.report_lanes import Lane, Mood, Stretch
from replay.subjects import Topic

WIDTH = 1000
LEFT = 250
"""Width of the lanes' names."""
ROW = 24
BAR = 16
HEADING = 26
MARKS = 36
"""Height of a row of decisions: three above each other."""
LETTER = 6.3
"""Width of a letter, on average, in the bars."""

_HEADINGS = {
    Topic.NODE: "Directors",
    Topic.VIP: "VIPs",
    Topic.REAL: "Real servers",
    Topic.PING: "Ping nodes",
    Topic.LINK: "Heartbeat links",
}


def chart(report: Report, zone: Zone) -> Element:
    """The whole drawing."""
    return _Chart(report, zone).draw()


class _Chart:
    def __init__(self, report: Report, zone: Zone) -> None:
        self.report = report
        self.zone = zone
        self.y = 30
        self.nicknames = nicknames([director.node for director in report.directors])
        self.services = {lane.subject.service for lane in report.lanes if lane.subject.service}
        self.scale = (WIDTH - LEFT) / max(1, report.until_ns - report.from_ns)
        self.svg = h("svg", id="lanes", class_="lanes", role="group", aria_labelledby="lanes-title")

    def x(self, wall_ns: int) -> float:
        return round(LEFT + (wall_ns - self.report.from_ns) * self.scale, 2)

    def ms(self, wall_ns: int) -> str:
        return f"{(wall_ns - self.report.from_ns) / 1e6:.3f}"

    def draw(self) -> Element:
        report = self.report
        axis = h("g", id="axis", class_="axis", aria_hidden="true")
        body = h("g", id="body")
        add(self.svg, _patterns(), h("title", "Lanes of time", id="lanes-title"), axis, body)
        add(body, self._heading("Decisions"))
        for director in report.directors:
            add(body, self._decisions(director.node))
        for topic, lanes in groupby(report.lanes, key=lambda lane: lane.subject.topic):
            add(body, self._heading(_HEADINGS[topic]))
            for lane in lanes:
                add(body, self._lane(lane))
        height = self.y + 8
        for wall_ns, label in self.zone.ticks(report.from_ns, report.until_ns, 8):
            if self.x(wall_ns) > WIDTH - 30:
                continue
            x = str(self.x(wall_ns))
            line = h("line", x1=x, x2=x, y1=24, y2=height)
            add(axis, h("g", line, h("text", label, x=x, y=16, text_anchor="middle"), class_="tick"))
        for name, value in (("viewBox", f"0 0 {WIDTH} {height}"), ("data-left", LEFT), ("data-height", height)):
            self.svg.set(name, str(value))
        self.svg.set("data-span", self.ms(report.until_ns))
        self.svg.set("data-origin", f"{(report.from_ns / 1e6) + self.zone.offset.total_seconds() * 1000:.3f}")
        add(self.svg, h("line", id="cursor", class_="cursor", y1=24, y2=height, x1=-9, x2=-9, aria_hidden="true"))
        return self.svg

    def _heading(self, text: str) -> Element:
        self.y += HEADING
        return h("text", text, class_="heading", x=4, y=self.y - 7, aria_hidden="true")

    # ---- decisions

    def _decisions(self, node: str) -> Element:
        row = h("g", role="group", aria_label=f"decisions of {node}", class_="marks", data_y=self.y)
        add(row, self._name(node, "", MARKS))
        ends = [float("-inf")] * 3
        for decision in self.report.decisions:
            if decision.node != node:
                continue
            x = self.x(decision.wall_ns)
            level = next((i for i, end in enumerate(ends) if end <= x), 2)
            ends[level] = x + 11
            add(row, self._mark(decision, x, self.y + 6 + level * 11))
        self.y += MARKS
        return row

    def _mark(self, decision: Decision, x: float, y: float) -> Element:
        said = f"{self.zone.short(decision.wall_ns)} {decision.node}, {decision.label}: {_cut(decision.text, 300)}"
        return h(
            "a",
            h("title", said),
            h("path", d=_SHAPES[decision.weight], class_="shape"),
            href=f"#why-{decision.number}",
            class_=f"mark {decision.weight.name.lower()}",
            aria_label=said,
            data_a=self.ms(decision.wall_ns),
            data_decision=decision.number,
            transform=f"translate({x},{y})",
        )

    # ---- lanes

    def _lane(self, lane: Lane) -> Element:
        subject = lane.subject
        several = len(self.report.directors) > 1
        by = _by(lane, self.nicknames) if several else ""
        name = subject.name
        if subject.service and len(self.services) > 1:
            name += f" of {subject.service}"
        told = ", ".join(f"{s.word} from {self.zone.short(s.wall_ns)}" for s in lane.stretches[:30])
        row = h("g", role="img", aria_label=f"{subject}{by and ', '}{by}: {told}", class_="lane")
        add(row, self._name(name, by, ROW))
        for stretch in lane.stretches:
            add(row, self._bar(stretch))
        self.y += ROW
        return row

    def _name(self, name: str, by: str, height: int) -> Element:
        middle = self.y + height / 2 + 4
        most = int((LEFT - 16) / LETTER)
        room = max(12, most - len(by) - 1) if by else most
        text = h("text", h("title", f"{name} {by}".strip()), _middle(name, room), x=12, y=str(middle), class_="name")
        if by:
            add(text, h("tspan", " " + _middle(by, most - min(len(name), room)), class_="by"))
        return text

    def _bar(self, stretch: Stretch) -> Element:
        x, until = self.x(stretch.wall_ns), self.x(stretch.until_wall_ns)
        width = max(1.5, until - x)
        took = duration(stretch.until_wall_ns - stretch.wall_ns)
        said = f"{stretch.word} for {took}, from {self.zone.short(stretch.wall_ns)}"
        bar = h(
            "g",
            h("title", said),
            h("rect", x=str(x), y=self.y + 4, width=f"{width:.2f}", height=BAR, rx=2),
            class_=f"bar {stretch.mood.value}",
            data_a=self.ms(stretch.wall_ns),
            data_b=self.ms(stretch.until_wall_ns),
            data_word=stretch.word,
        )
        fits = len(stretch.word) * LETTER + 8 < width
        label = h("text", stretch.word, x=f"{x + 5:.2f}", y=self.y + 16)
        if not fits:
            label.set("visibility", "hidden")
        add(bar, label)
        return bar


_SHAPES = {
    Weight.STEP: "M0-2.5L2.5 0L0 2.5L-2.5 0Z",
    Weight.REAL: "M-3-3H3V3H-3Z",
    Weight.MOVED: "M0-5L5 0L0 5L-5 0Z",
    Weight.TROUBLE: "M0-6L6 5H-6Z",
}
"""What a decision's mark looks like: its form says what its colour says."""

LEGEND = (
    (Weight.TROUBLE, "trouble: a silence, a failed check or action, an operator, something not recorded"),
    (Weight.MOVED, "a VIP or a director changed"),
    (Weight.REAL, "a real server changed"),
    (Weight.STEP, "a step on the way"),
)


def legend() -> Element:
    """What the marks and bars mean."""
    listed = h("ul", class_="legend", aria_label="Legend")
    for weight, text in LEGEND:
        shape = h("path", d=_SHAPES[weight], class_="shape")
        svg = h("svg", h("g", shape, class_=f"mark {weight.name.lower()}"), viewBox="-8 -8 16 16", aria_hidden="true")
        add(listed, h("li", svg, text))
    return listed


def _patterns() -> Element:
    """Hatching, so that a bar's mood can be told without colour."""
    defs = h("defs")
    for mood, path in ((Mood.BAD, "M-2 2L2-2M0 8L8 0M6 10L10 6"), (Mood.CAUTION, "M0 4H8")):
        add(
            defs,
            h(
                "pattern",
                h("rect", width=8, height=8, class_="ground"),
                h("path", d=path, class_="hatch"),
                id=f"hatch-{mood.value}",
                class_=mood.value,
                width=8,
                height=8,
                patternUnits="userSpaceOnUse",
            ),
        )
    return defs


def nicknames(names: list[str]) -> dict[str, str]:
    """Host names without their domain, where that still tells them apart."""
    short = [name.split(".")[0] for name in names]
    return dict(zip(names, short if len(set(short)) == len(names) else names, strict=True))


def _by(lane: Lane, names: dict[str, str]) -> str:
    seen_by = names.get(lane.seen_by, lane.seen_by)
    if lane.subject.topic is Topic.VIP:
        return f"on {seen_by}"
    if lane.subject.name == lane.seen_by:
        return "itself"
    return f"seen by {seen_by}"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _middle(text: str, most: int) -> str:
    """Shortened in the middle: names of machines differ at both ends."""
    if len(text) <= most:
        return text
    head = (most - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"
