"""A report as one HTML file that needs nothing else: what happened, lanes, decisions and causes, configuration.

The page's own script and style and the charting library (d3, in vendor/) are inlined; a content security policy permits
these texts by their digests and nothing else, so nothing in a journal can run or load anything.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from xml.etree.ElementTree import Element

from hafsm import __version__
from hafsm.web.chart import chart, legend
from hafsm.web.markup import Child, add, document, h, plain
from hafsm.web.times import Zone, duration
from journal.records import RunRecord
from replay import words
from replay.causes import Cause
from replay.finding import FindingKind
from replay.report import Decision, Director, Report, Sentence, Weight

TEXT_SHOWN = 2000
"""Letters of one sentence: a reload can move thousands of real servers in one decision."""
STATES_SHOWN = 2000
CONFIGURATION_SHOWN = 200_000
EVIDENCE_SHOWN = 3
"""Of a decision's causes, so many with the facts beside them."""


def page(report: Report, clock: str = "", zone: datetime.tzinfo | None = None) -> str:
    """The file's text. `clock` says how far the two directors' clocks are apart; without `zone`: local time."""
    return document(_Page(report, clock, Zone(zone, report.from_ns, report.until_ns)).html())


def _part(name: str) -> str:
    return (files("hafsm.web") / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


class _Page:
    def __init__(self, report: Report, clock: str, zone: Zone) -> None:
        self.report = report
        self.clock = clock
        self.zone = zone
        self.numbers = {(d.node, d.seq): d.number for d in report.decisions}
        self.names = " and ".join(director.node for director in report.directors)

    def html(self) -> Element:
        style = _part("report.css")
        scripts = [_part("vendor/d3.min.js"), _part("report.js")]
        allowed = " ".join(map(_digest, scripts))
        policy = (
            f"default-src 'none'; script-src {allowed}; style-src {_digest(style)}; base-uri 'none'; form-action 'none'"
        )
        head = h(
            "head",
            h("meta", charset="utf-8"),
            h("meta", http_equiv="Content-Security-Policy", content=policy),
            h("meta", name="viewport", content="width=device-width, initial-scale=1"),
            h("meta", name="color-scheme", content="light dark"),
            h("meta", name="generator", content=f"hafsm {__version__}"),
            h("title", f"Incident report: {self.names}, {self.zone.full(self.report.from_ns)}"),
            h("style", style),
        )
        for element in head.iter("style"):
            element.text = style  # as it is digested
        body = h("body", *self._body())
        for script in scripts:
            element = h("script")
            element.text = script
            body.append(element)
        return h("html", head, body, lang="en")

    def _body(self) -> Iterator[Element]:
        yield h("header", h("p", f"Incident report · {self.names}", class_="kicker"), *self._headline())
        yield h("main", self._story(), self._chart(), self._decisions(), *self._findings(), *self._rest())
        yield h(
            "footer",
            h("p", f"Made by hafsm {__version__} from the journals alone. Times are {self.zone.name}."),
        )

    # ---- the answer

    def _headline(self) -> Iterator[Element]:
        report = self.report
        headline = report.headline
        if headline is None:
            yield h("h1", "No VIP and no director changed, and nothing went wrong")
        else:
            yield h("h1", _shortened(headline.text))
        when = f"{self.zone.full(report.from_ns)} to {self.zone.full(report.until_ns)} {self.zone.name}"
        span = duration(report.until_ns - report.from_ns)
        if headline is not None:
            own = f"{self.zone.full(headline.wall_ns)}, {headline.node}, event "
            decision = report.decisions[headline.decision - 1]
            link = h("a", str(decision.seq), href=f"#why-{decision.number}", data_decision=decision.number)
            yield h("p", own, link, class_="when")
        for finding in report.findings:
            if finding.sure and finding.kind in (FindingKind.DOUBLE, FindingKind.NOBODY):
                yield h("p", self._time(finding.wall_ns), " ", _shortened(finding.text) + ".", class_="also")
                break
        yield h("p", f"The report covers {when}, {span}.", class_="covers")

    def _story(self) -> Element:
        section = h("section", h("h2", "What happened", id="story-title"), aria_labelledby="story-title")
        if not self.report.story:
            add(section, h("p", f"{len(self.report.decisions)} decisions, none of which moved a VIP or a director."))
        else:
            paragraph = h("p", class_="story")
            for sentence in self.report.story:
                add(paragraph, self._sentence(sentence), " ")
            add(section, paragraph)
        if self.clock:
            add(
                section,
                h("p", f"Clocks: {self.clock}. All times are by {self.report.directors[0].node}'s.", class_="note"),
            )
        lost = [f"{d.lost:,} events of {d.node}" for d in self.report.directors if d.lost]
        if lost:
            add(section, h("p", f"Lost, and so not told here: {', '.join(lost)}.", class_="note warning"))
        return section

    def _sentence(self, sentence: Sentence) -> Element:
        time = self._time(sentence.wall_ns)
        if sentence.decision:
            time = h("a", time, href=f"#why-{sentence.decision}", data_decision=sentence.decision)
        again = None
        if sentence.again:
            again = h("span", f" The same {sentence.again:,} times more.", class_="who")
        who = f" {sentence.node}: " if sentence.node else " both journals: "
        return h(
            "span", time, h("span", who, class_="who"), _shortened(sentence.text) + ".", again,
            class_=f"sentence {sentence.weight.name.lower()}",
        )  # fmt: skip

    def _time(self, wall_ns: int) -> Element:
        return h("time", self.zone.short(wall_ns), datetime=self.zone.machine(wall_ns))

    # ---- lanes

    def _chart(self) -> Element:
        buttons = [
            h("button", text, type="button", data_do=do, aria_label=label)
            for text, do, label in (
                ("−", "out", "zoom out"),
                ("+", "in", "zoom in"),
                ("◀", "left", "earlier"),
                ("▶", "right", "later"),
                ("whole", "whole", "show the whole time"),
                ("around the decision", "near", "show 10 seconds around the selected decision"),
            )
        ]
        hint = h(
            "p",
            "Drag to move, Ctrl and the wheel or a double click to zoom. A mark is a decision: select it to see why; ",
            h("kbd", "←"), " and ", h("kbd", "→"), " go to the one before and after.",
            class_="hint",
        )  # fmt: skip
        return h(
            "section",
            h("h2", "On one time axis", id="chart-title"),
            h("div", *buttons, class_="tools", role="toolbar", aria_label="Zoom", hidden=True, id="tools"),
            h("div", chart(self.report, self.zone), class_="frame", id="frame"),
            legend(),
            hint,
            h(
                "aside",
                h("h3", "Why", id="why-title"),
                h("div", id="why-body"),
                id="why",
                aria_labelledby="why-title",
                aria_live="polite",
                hidden=True,
            ),
            aria_labelledby="chart-title",
        )

    # ---- decisions

    def _decisions(self) -> Element:
        rows = [self._decision(decision) for decision in self.report.decisions]
        return h(
            "section",
            h("h2", "Decisions and their causes", id="decisions-title"),
            h(
                "table",
                h("caption", f"{len(rows):,} decisions in the order of cause and effect; each opens to its causes"),
                h("thead", _headings("time", "director", "about", "decision")),
                h("tbody", *rows),
                class_="decisions",
            ),
            *self._left_out(),
            aria_labelledby="decisions-title",
        )

    def _left_out(self) -> Iterator[Element]:
        if self.report.left_out:
            yield h("h3", "What this page leaves out")
            yield h("ul", *(h("li", text + ".") for text in self.report.left_out))

    def _decision(self, decision: Decision) -> Element:
        summary = h("summary", _shortened(decision.text))
        return h(
            "tr",
            h("td", self._time(decision.wall_ns)),
            h("td", decision.node),
            h("td", h("span", decision.label, class_=f"label {decision.weight.name.lower()}")),
            h("td", h("details", summary, self._why(decision))),
            id=f"d{decision.number}",
            class_=decision.weight.name.lower() + (" heavy" if decision.weight >= Weight.MOVED else ""),
        )

    def _why(self, decision: Decision) -> Element:
        why = h("div", id=f"why-{decision.number}", class_="why")
        on = f", {decision.event}" if decision.event else ""
        add(why, h("p", f"Event {decision.seq} of {decision.node}'s journal{on}.", class_="note"))
        if decision.causes:
            add(why, self._causes("Because", decision.causes, decision.node))
        else:
            add(why, h("p", "It rests on this event alone."))
        if decision.causes_left:
            add(why, h("p", f"{decision.causes_left} older causes are left out: hafsm why --full.", class_="note"))
        for cause in [cause for cause in decision.causes if cause.evidence is not None][:EVIDENCE_SHOWN]:
            add(why, _evidence(cause))
        if decision.beyond:
            other = next(d.node for d in self.report.directors if d.node != decision.node)
            add(why, self._causes(f"And on {other}, because", decision.beyond, other))
        return why

    def _causes(self, title: str, causes: Sequence[Cause], node: str) -> Element:
        rows = []
        for cause in causes:
            number = self.numbers.get((node, cause.seq))
            event: Child = str(cause.seq)
            if number is not None:
                event = h("a", str(cause.seq), href=f"#why-{number}", data_decision=number)
            rows.append(h("tr", h("td", self._time(cause.wall_ns)), h("td", event), h("td", _shortened(cause.text))))
        return h(
            "table",
            h("caption", f"{title} (newest first)"),
            h("thead", _headings("time", "event", "cause")),
            h("tbody", *rows),
            class_="causes",
        )

    # ---- the rest

    def _findings(self) -> Iterator[Element]:
        if self.report.merged is None:
            return
        section = h("section", h("h2", "What only both journals show", id="both-title"), aria_labelledby="both-title")
        if not self.report.findings:
            add(section, h("p", "Nothing: every message arrived, one director held each VIP, nothing was handed over."))
        else:
            rows = [
                h("tr", h("td", self._time(f.wall_ns)), h("td", f.kind.value), h("td", _shortened(f.text)))
                for f in self.report.findings
            ]
            add(
                section,
                h(
                    "table",
                    h("caption", "Found by comparing the two journals"),
                    h("thead", _headings("time", "what", "finding")),
                    h("tbody", *rows),
                ),
            )
        yield section

    def _rest(self) -> Iterator[Element]:
        yield h(
            "section",
            h("h2", "The lanes as a table", id="states-title"),
            h("details", h("summary", "Every state, from when to when"), self._states()),
            class_="on-screen",
            aria_labelledby="states-title",
        )
        section = h("section", h("h2", "Versions and configuration", id="runs-title"), aria_labelledby="runs-title")
        for director in self.report.directors:
            add(section, h("h3", director.node), self._runs(director), *self._configurations(director))
        yield section

    def _states(self) -> Element:
        rows = [
            h(
                "tr",
                h("th", str(lane.subject), scope="row"),
                h("td", lane.seen_by),
                h("td", stretch.word),
                h("td", self._time(stretch.wall_ns)),
                h("td", self._time(stretch.until_wall_ns)),
                h("td", duration(stretch.until_wall_ns - stretch.wall_ns)),
            )
            for lane in self.report.lanes
            for stretch in lane.stretches
        ]
        more = f"; {len(rows) - STATES_SHOWN:,} more are only drawn" if len(rows) > STATES_SHOWN else ""
        return h(
            "table",
            h("caption", f"States of directors, VIPs, real servers, ping nodes and links{more}"),
            h("thead", _headings("subject", "by the journal of", "state", "from", "until", "for")),
            h("tbody", *rows[:STATES_SHOWN]),
        )

    def _runs(self, director: Director) -> Element:
        rows = [
            h(
                "tr",
                h("td", str(run.run)),
                h("td", self.zone.full(run.started_wall_ns)),
                h("td", run.code_version),
                h("td", run.flags or "none"),
                h("td", run.boot_id),
                h("td", h("code", run.config_digest[:16])),
            )
            for run in director.runs
        ]
        caption = f"Lives of the daemon on {director.node}; events {director.first:,} to {director.last:,} were read"
        heads = _headings("life", "started (own clock)", "hafsm", "behaviour flags", "boot", "configuration's digest")
        return h("table", h("caption", caption), h("thead", heads), h("tbody", *rows))

    def _configurations(self, director: Director) -> Iterator[Element]:
        for run, lives in _distinct(director.runs):
            text = run.configuration or "(none was recorded)"
            more = f"\n… {len(text) - CONFIGURATION_SHOWN:,} letters more" if len(text) > CONFIGURATION_SHOWN else ""
            which = "life" if len(lives) == 1 else "lives"
            title = f"Configuration of {which} {', '.join(lives)}, without secrets, as recorded"
            yield h("details", h("summary", title), h("pre", text[:CONFIGURATION_SHOWN] + more), class_="on-screen")


def _distinct(runs: Iterable[RunRecord]) -> Iterator[tuple[RunRecord, list[str]]]:
    by_digest: dict[str, tuple[RunRecord, list[str]]] = {}
    for run in runs:
        by_digest.setdefault(run.config_digest, (run, []))[1].append(str(run.run))
    yield from by_digest.values()


def _headings(*names: str) -> Element:
    return h("tr", *(h("th", name, scope="col") for name in names))


def _evidence(cause: Cause) -> Element:
    assert cause.evidence is not None, "asked for causes with evidence only"
    listed = h("dl", class_="evidence")
    for title, lines in (
        ("missing", words.missing(cause.evidence)),
        ("meanwhile", words.meanwhile(cause.evidence)),
        ("itself", words.own(cause.evidence)),
    ):
        told = [h("dd", _shortened(line)) for line in lines]
        if told:
            add(listed, h("dt", title), *told)
    return listed


def _shortened(text: str) -> str:
    text = plain(text)
    return text if len(text) <= TEXT_SHOWN else f"{text[:TEXT_SHOWN]}… ({len(text) - TEXT_SHOWN:,} letters more)"
