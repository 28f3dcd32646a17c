"""The report in headless Chromium: it runs without complaint, zooms, and shows causes; a hostile one runs nothing."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from hafsm.web.report_page import page as page_of
from replay.report import Report
from tests.unit_report import hostile
from tests.unit_report.browser import Page, browser, chromium
from tests.unit_report.conftest import CANNOT_RUN, Reported

SHOWN = "!document.getElementById('why').hidden && document.querySelector('#why .told').textContent"
DOMAIN = "document.querySelector('#axis .tick text').textContent"


@pytest.fixture(scope="module", autouse=True)
def browser_can_run() -> None:
    """Skips everything here without a browser, or fails it when it must run."""
    if chromium() is None and os.environ.get("HAFSM_REQUIRE_KERNEL") == "1":
        pytest.fail(CANNOT_RUN, pytrace=False)
    if chromium() is None:
        pytest.skip(CANNOT_RUN)


@pytest.fixture(scope="module")
def incident(reported: Reported, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("report") / "incident.html"
    file.write_text(page_of(reported("power_cut_and_back"), "the clocks agree"), encoding="utf-8")
    return file.as_uri()


def in_browser(story: Callable[[Page], Awaitable[None]]) -> None:
    async def run() -> None:
        async with browser() as page:
            await page.look(1280, 1000)
            await story(page)
            assert page.errors == []

    asyncio.run(run())


def size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def number_of(reported: Reported, words: str) -> int:
    return next(d.number for d in reported("power_cut_and_back").decisions if words in d.text)


def test_a_person_reads_clicks_and_zooms(incident: str, reported: Reported) -> None:
    again = number_of(reported, "starts as server40, generation 2")

    async def story(page: Page) -> None:
        await page.open(incident)
        assert (await page.value(SHOWN)).startswith("server40 is dead"), "the answer is open at once"

        await page.click(f"#lanes a.mark[data-decision='{again}'] .shape")
        assert (await page.value(SHOWN)).startswith("hafsm 0 starts as server40, generation 2")
        causes = await page.value("document.querySelector('#why .causes').textContent")
        assert "the life before ended without a word" in causes
        assert await page.value("location.hash") == f"#why-{again}"
        assert await page.value(f"document.getElementById('d{again}').classList.contains('selected')")

        width = (
            "(([a, b]) => Math.abs(a - b))([1, 2].map((n) => +/\\((.+),/.exec(document.querySelector("
            "`#lanes a.mark[data-decision='${n * 10}']`).getAttribute('transform'))[1]))"
        )
        before, labels = await page.value(width), await page.value("document.getElementById('axis').textContent")
        await page.click("button[data-do=in]")
        assert abs(await page.value(width) / before - 2) < 0.001
        assert await page.value("document.getElementById('axis').textContent") != labels
        await page.click("button[data-do=near]")
        mark = f"document.querySelector('#lanes a.mark[data-decision=\"{again}\"]').getBoundingClientRect()"
        frame = "document.getElementById('frame').getBoundingClientRect()"
        assert await page.value(f"{mark}.x > {frame}.x + 250 && {mark}.right < {frame}.right")
        assert await page.value("document.querySelectorAll('#axis .tick').length") > 3
        await page.click("button[data-do=whole]")
        assert abs(await page.value(width) - before) < 1
        assert await page.value("document.getElementById('axis').textContent") == labels

    in_browser(story)


def test_a_wheel_with_ctrl_zooms_and_without_scrolls(incident: str) -> None:
    async def story(page: Page) -> None:
        await page.open(incident)
        await page.value("document.getElementById('frame').scrollIntoView()")
        labels = await page.value("document.getElementById('axis').textContent")
        for modifiers in (0, 2):
            where = {"x": 700, "y": 200, "deltaX": 0, "deltaY": -100, "modifiers": modifiers}
            await page.call("Input.dispatchMouseEvent", type="mouseWheel", **where)
            zoomed = f"document.getElementById('axis').textContent !== {labels!r}"
            if modifiers:
                await page.until(zoomed)
            else:
                assert not await page.value(zoomed)

    in_browser(story)


def test_the_keyboard_reaches_every_decision(incident: str, reported: Reported) -> None:
    decisions = reported("power_cut_and_back").decisions

    async def story(page: Page) -> None:
        await page.open(incident)
        assert await page.value("document.querySelectorAll('#lanes a[tabindex=\"0\"]').length") <= 2, "one stop"
        await page.value("document.querySelector('#lanes a.selected').focus()")
        for _ in decisions:
            await page.key("ArrowLeft")
        assert (await page.value(SHOWN)) == decisions[0].text
        for decision in decisions[1:]:
            await page.key("ArrowRight")
            assert (await page.value(SHOWN)) == decision.text
            assert await page.value("document.activeElement.dataset.decision") == str(decision.number)
        labels = await page.value("document.getElementById('axis').textContent")
        await page.key("+")
        assert await page.value("document.getElementById('axis').textContent") != labels

    in_browser(story)


def test_a_link_to_a_decision_opens_it(incident: str, reported: Reported) -> None:
    number = number_of(reported, "auto_failback on")

    async def story(page: Page) -> None:
        await page.open(f"{incident}#why-{number}")
        assert (await page.value(SHOWN)).startswith("auto_failback on")
        told = await page.value("document.getElementById('why').textContent")
        assert "server40 began a new life (generation 1 → 2)" in told
        assert "And on server40, because" in told and "hafsm 0 started on server40" in told
        await page.click("#why .causes a[data-decision]:not([data-decision='" + str(number) + "'])")
        assert not (await page.value(SHOWN)).startswith("auto_failback on"), "a cause leads to its own causes"

    in_browser(story)


def test_screenshots_in_light_and_dark_and_on_paper(incident: str) -> None:
    async def story(page: Page) -> None:
        await page.open(incident)
        light = await page.screenshot()
        await page.look(1280, 1000, "dark")
        dark = await page.screenshot()
        assert size(light) == size(dark) == (1280, 1000) and light != dark
        background = "getComputedStyle(document.body).backgroundColor"
        assert await page.value(background) == "rgb(18, 22, 27)"
        await page.look(1280, 1000)
        assert await page.value(background) == "rgb(255, 255, 255)"
        paper = await page.paper()
        assert paper.startswith(b"%PDF-")
        assert not await page.value("document.querySelector('tr details[open]')"), "closed again after printing"
        await page.look(420, 800)
        assert await page.value("document.documentElement.scrollWidth <= innerWidth"), "a telephone scrolls no page"

    in_browser(story)


def test_it_is_readable_without_scripts(incident: str) -> None:
    async def story(page: Page) -> None:
        await page.call("Emulation.setScriptExecutionDisabled", value=True)
        await page.call("Page.enable")
        await page.call("Page.navigate", url=incident)
        await page.until("document.readyState === 'complete' && !!document.querySelector('footer')")
        assert await page.value("document.querySelectorAll('#lanes .bar rect').length") > 20
        assert await page.value("document.getElementById('tools').hidden")
        assert len(await page.screenshot()) > 20_000

    in_browser(story)


def test_a_hostile_journal_runs_nothing(attacked: Report, tmp_path: Path) -> None:
    file = tmp_path / "hostile.html"
    file.write_text(page_of(attacked), encoding="utf-8")

    async def story(page: Page) -> None:
        await page.open(file.as_uri())
        clicked = await page.value(
            "[...document.querySelectorAll('#lanes a.mark')].filter((mark) => {"
            "  for (const kind of ['mouseover', 'click'])"
            "    mark.dispatchEvent(new MouseEvent(kind, {bubbles: true, cancelable: true}));"
            "  return document.querySelector('#why .told').textContent; }).length"
        )
        assert clicked > 20
        assert hostile.PLANTED in await page.value("document.body.textContent")
        assert await page.value("document.documentElement.dataset.owned") is None

    in_browser(story)


def test_the_policy_stops_a_script_that_the_page_does_not_know(incident: str, tmp_path: Path) -> None:
    """Even if something could plant one: the browser says so and runs nothing."""
    text = Path(incident.removeprefix("file://")).read_text(encoding="utf-8")
    planted = text.replace("<main>", "<script>document.documentElement.dataset.owned = 'yes'</script><main>", 1)
    assert planted != text
    file = tmp_path / "planted.html"
    file.write_text(planted, encoding="utf-8")

    async def run() -> None:
        async with browser() as page:
            await page.open(file.as_uri())
            assert await page.value("document.documentElement.dataset.owned") is None
            assert any("Content Security Policy" in error for error in page.errors)

    asyncio.run(run())
