"""The page: one file that needs nothing, says the same in pictures and tables, and obeys nothing in a journal."""

from __future__ import annotations

import base64
import datetime
import hashlib
import re
from itertools import pairwise
from pathlib import Path

import pytest
from msgspec.structs import replace

import hafsm.web.report_page as subject
from hafsm.web.markup import add, document, h
from hafsm.web.report_page import page
from hafsm.web.times import Zone, duration
from replay.report import Report, Weight
from tests.unit_report import hostile
from tests.unit_report.conftest import Reported
from tests.unit_report.reading import Read

SECOND = 10**9


@pytest.fixture(scope="session")
def power_cut(reported: Reported) -> Report:
    return reported("power_cut_and_back")


@pytest.fixture(scope="session")
def read(power_cut: Report) -> Read:
    return Read(page(power_cut, "the clocks agree"))


def test_it_refers_to_nothing_outside_itself(read: Read) -> None:
    assert not {"src", "srcset", "action", "formaction", "data", "poster", "background"} & {
        name for _, attributes in read.tags for name in attributes
    }
    assert all(value.startswith("#") for value in read.values("href"))
    assert not {"link", "img", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in read.tags}
    outside = [text for text in read.raw["style"] if "@import" in text or re.search(r"url\((?!#)", text)]
    assert outside == []


def test_every_reference_has_its_place(read: Read) -> None:
    ids = read.values("id")
    assert len(ids) == len(set(ids))
    wanted = {value[1:] for value in read.values("href")}
    wanted |= {name for value in read.values("aria-labelledby") for name in value.split()}
    assert wanted and wanted <= set(ids)


def test_the_policy_permits_the_inlined_texts_and_nothing_else(read: Read) -> None:
    policy = next(meta["content"] for meta in read.all("meta") if "http-equiv" in meta)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))

    def digests(texts: list[str]) -> str:
        return " ".join(
            "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'" for text in texts
        )

    assert rules == {
        "default-src": "'none'",
        "script-src": digests(read.raw["script"]),
        "style-src": digests(read.raw["style"]),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert read.values("style") == []
    first = [tag for tag, _ in read.tags].index("meta")
    assert first < [tag for tag, _ in read.tags].index("script")


def test_headings_tables_and_lanes_are_for_people_who_hear_them(read: Read, power_cut: Report) -> None:
    levels = [int(tag[1]) for tag, _ in read.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert read.tables and all(read.tables), "each table has a caption"
    assert all(attributes.get("scope") in ("col", "row") for attributes in read.all("th"))
    lanes = [attributes for tag, attributes in read.tags if tag == "g" and attributes.get("class") == "lane"]
    assert len(lanes) == len(power_cut.lanes)
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in lanes)
    assert all(attributes.get("aria-label") for attributes in read.all("button"))


def test_each_decision_is_a_mark_and_a_row_with_its_causes(read: Read, power_cut: Report) -> None:
    marks = [attributes for attributes in read.all("a") if attributes.get("class", "").startswith("mark")]
    assert {mark["href"] for mark in marks} == {f"#why-{d.number}" for d in power_cut.decisions}
    assert all(mark["aria-label"] for mark in marks)
    rows = [attributes["id"] for attributes in read.all("tr") if "id" in attributes]
    assert rows == [f"d{d.number}" for d in power_cut.decisions]
    for decision in power_cut.decisions:
        assert decision.text in read.text
        assert all(cause.text in read.text for cause in (*decision.causes, *decision.beyond))


def test_meaning_does_not_rest_on_colour(read: Read) -> None:
    """Each weight has a form and a word of its own, each bar its word."""
    shapes = {attributes["d"] for tag, attributes in read.tags if tag == "path" and attributes.get("class") == "shape"}
    assert len(shapes) == len(Weight)
    bars = [attributes for tag, attributes in read.tags if attributes.get("class", "").startswith("bar ")]
    assert bars and all(bar["data-word"] for bar in bars)


def test_states_are_told_as_a_table_as_well(read: Read, power_cut: Report) -> None:
    for lane in power_cut.lanes:
        assert str(lane.subject) in read.text


def test_findings_clocks_versions_and_configuration_are_there(read: Read, power_cut: Report) -> None:
    assert "the clocks agree" in read.text
    assert all(finding.text in read.text for finding in power_cut.findings)
    assert re.search(r"Lives of the daemon on server40; events 1 to [0-9]+ were read", read.text)
    assert all(line in read.text for line in power_cut.left_out)


def test_the_same_report_is_the_same_bytes(power_cut: Report) -> None:
    assert page(power_cut) == page(power_cut)


def test_a_report_without_anything_wrong(reported: Reported) -> None:
    calm = replace(reported("power_cut", "b"), headline=None, story=(), decisions=(), findings=(), lanes=())
    assert "No VIP and no director changed, and nothing went wrong" in Read(page(calm)).text


def test_a_sentence_that_was_decided_again_says_how_often(power_cut: Report) -> None:
    story = tuple(replace(sentence, again=1234) for sentence in power_cut.story)
    assert "The same 1,234 times more." in Read(page(replace(power_cut, story=story))).text
    assert "times more" not in Read(page(power_cut)).text


def test_two_holders_stand_in_the_headline_if_it_is_sure(reported: Reported) -> None:
    sure = "both held 192.168.2.232/24 (eth0:0) for 16.0 s"
    before, _, _ = page(reported("partition")).partition("<main>")
    assert sure in before
    before, _, _ = page(reported("power_cut_and_back")).partition("<main>")
    assert "may both have held" not in before


# ---- hostile journals


def test_a_hostile_journal_makes_no_markup(attacked: Report) -> None:
    runs = tuple(
        run._replace(configuration="".join(hostile.ALL), code_version=hostile.PLANTED, boot_id=hostile.ATTRIBUTE)
        for run in attacked.directors[0].runs
    )
    bad = hostile.PLANTED + hostile.ATTRIBUTE + hostile.IMAGE
    attacked = replace(
        attacked,
        directors=(replace(attacked.directors[0], node=bad, runs=runs), *attacked.directors[1:]),
        lanes=tuple(
            replace(lane, subject=replace(lane.subject, name=bad, service=hostile.LINK), seen_by=bad)
            for lane in attacked.lanes
        ),
        decisions=tuple(replace(d, node=bad, event=hostile.PLANTED) for d in attacked.decisions),
    )
    read = Read(page(attacked, hostile.PLANTED))
    for words in (hostile.PLANTED, hostile.IMAGE, hostile.LINK, hostile.ATTRIBUTE, hostile.COMMENT):
        assert words in read.text, "it is shown as what it is"
    assert len(read.raw["script"]) == 2 and len(read.raw["style"]) == 1
    assert not any(name.startswith("on") for _, attributes in read.tags for name in attributes)
    assert not any("javascript:" in value for value in read.values("href"))
    assert not {"img", "iframe"} & {tag for tag, _ in read.tags}
    assert "\u202e" not in read.text and "\x1b" not in read.text and "\x00" not in read.text


def test_no_text_can_blow_up_the_page(power_cut: Report) -> None:
    """A reload may move thousands of real servers in one sentence."""
    long = "real server 10.0.0.1:80 is up; " * 100_000
    decisions = tuple(replace(decision, text=long) for decision in power_cut.decisions)
    text = page(replace(power_cut, decisions=decisions))
    assert len(text) < 2_000_000
    assert "letters more)" in text


def test_the_tables_of_states_are_bounded(power_cut: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "STATES_SHOWN", 5)
    assert "more are only drawn" in Read(page(power_cut)).text


# ---- the parts


def test_markup_escapes_by_construction() -> None:
    element = h("p", "<b>", h("i", "&"), "tail<", class_='"><x', data_a=1, hidden=True, title=None)
    add(element, "more")
    assert document(element) == (
        '<!DOCTYPE html>\n<p class="&quot;&gt;<x" data-a="1" hidden="hidden">&lt;b&gt;<i>&amp;</i>tail&lt;more</p>\n'
    )


def test_ticks_are_round_in_the_zone_of_the_report() -> None:
    begin = 1_700_000_000 * SECOND
    india = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
    zone = Zone(india, begin, begin + 6 * 3600 * SECOND)
    labels = [label for _, label in zone.ticks(begin, begin + 6 * 3600 * SECOND, 8)]
    assert labels == ["04:00", "05:00", "06:00", "07:00", "08:00", "09:00"]
    assert zone.full(begin) == "2023-11-15 03:43:20.000" and zone.name == "UTC+05:30"
    later = begin + 20 * 3600 * SECOND
    labels = [label for _, label in Zone(datetime.UTC, begin, later).ticks(begin, later, 4)]
    assert labels == ["11-15 00:00", "11-15 06:00", "11-15 12:00", "11-15 18:00"]


@pytest.mark.parametrize("span_s", [0.001, 0.05, 1, 60, 3600, 86_400, 86_400 * 400])
def test_there_are_never_too_many_ticks(span_s: float) -> None:
    begin = 1_700_000_000 * SECOND
    until = begin + int(span_s * SECOND)
    assert len(Zone(datetime.UTC, begin, until).ticks(begin, until, 8)) <= 8


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "0 ms"), (12_345_678, "12 ms"), (30 * SECOND, "30.0 s"), (5025 * SECOND, "1:23:45")],
)
def test_durations(nanoseconds: int, text: str) -> None:
    assert duration(nanoseconds) == text


def test_the_library_ships_with_its_licence_and_is_what_its_authors_published() -> None:
    vendor = Path(subject.__file__).parent / "vendor"
    assert hashlib.sha256((vendor / "d3.min.js").read_bytes()).hexdigest() == (
        "912111098ea99503a6f4967361d2bbdc9dbf58cf9c678c8e27e5b02d1a07f0c1"
    )
    assert "Permission to use, copy, modify" in (vendor / "d3.LICENSE").read_text()
