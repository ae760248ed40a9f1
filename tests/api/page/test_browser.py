"""The page in a real browser: it fills with what a shard tells, in both themes, on a phone, by keyboard; a token."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator

import httpx
import pytest

from tests.api import bodies
from tests.api.page.browser import Page, browsing, installed
from tests.api.process import Server, serving

CHROMIUM = installed()
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium: install Debian's package chromium to test the page in a browser"
)
PATTERNS = 30
SCREENS = [(1440, 900, "dark"), (1440, 900, "light"), (390, 844, "dark"), (320, 640, "light")]


@pytest.fixture(scope="module")
def shown() -> Iterator[Server]:
    """A shard with titles and patterns of its own."""
    with serving("--max-devices", "10000", "--max-patterns", "10000", "--region", "us-east") as server:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            for seed in range(PATTERNS):
                title = bodies.content(f"title-{seed}", title=f"<b>Title</b> {seed}", embedding=bodies.embedding(seed))
                client.post("/api/v1/content", json=title)
                pattern = bodies.pattern(embedding=bodies.embedding(seed))
                client.post("/api/v1/sync", json=bodies.body(pattern)).raise_for_status()
        yield server


def visit(server: Server, see: Callable[[Page], Awaitable[None]], script: str = "") -> Page:
    """Open the page, with a script that runs before its own, and see; the page as it was left."""

    async def run() -> Page:
        assert CHROMIUM is not None
        async with browsing(CHROMIUM) as page:
            await page.call("Page.addScriptToEvaluateOnNewDocument", source=script)
            await page.open(f"{server.url}/")
            await see(page)
            return page

    return asyncio.run(run())


async def filled(page: Page) -> None:
    await page.until("document.readyState === 'complete'")
    await page.until("document.querySelectorAll('#map .dot').length")
    await page.until("document.querySelectorAll('#chart-rate .line, #chart-lag .line').length >= 2")
    await page.until("document.querySelectorAll('#trends .bar').length")
    await page.until("document.querySelectorAll('.spark .line').length >= 5")


def test_page_fills_and_is_quiet_in_both_themes_and_on_a_phone(shown: Server) -> None:
    backs: set[str] = set()

    async def see(page: Page) -> None:
        await filled(page)
        assert await page.value("document.getElementById('status').textContent") == "ready"
        assert await page.value("document.getElementById('patterns').textContent") == str(PATTERNS)
        assert "us-east" in await page.value("document.querySelector('.brand').textContent")
        assert not await page.value("document.querySelector('#trends b')"), "a title is text, whatever is in it"
        for width, height, theme in SCREENS:
            await page.look(width, height, theme, still=True)
            await page.until(f"document.querySelector('#map svg').getAttribute('viewBox').split(' ')[2] < {width}")
            assert await page.value("document.documentElement.scrollWidth") <= width
            backs.add(await page.value("getComputedStyle(document.body).backgroundColor"))
            assert (
                await page.value("getComputedStyle(document.getElementById('link'), '::before').animationName")
                == "none"
            )

    page = visit(shown, see)
    assert len(backs) == 2
    assert page.said == []
    assert {url.split("/page/")[0].split("/api/")[0].rstrip("/") for url in page.asked} == {shown.url}


def test_everything_is_reached_and_read_by_keyboard(shown: Server) -> None:
    async def see(page: Page) -> None:
        await filled(page)
        reached = []
        for _ in range(14):
            await page.press("Tab")
            reached.append(await page.value(NAME_OF_FOCUSED))
            if len(reached) == 1:
                assert reached == ["skip"]
            if reached[-1] == "map":
                await page.press("Home")
                first = await page.value("document.getElementById('map-said').textContent")
                assert "Title" in first and "mean success 0.91" in first
                for key in ("ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown"):
                    await page.press(key)
                assert await page.value("document.getElementById('map-said').textContent") != first
                assert await page.value("!document.querySelector('.tip').hidden")
            if reached.count("chart-rate") == 1 and reached[-1] == "chart-rate":  # not its table, which comes next
                for _ in range(2):
                    await page.press("ArrowLeft")
                assert await page.value("document.querySelectorAll('#chart-rate .cross').length") == 1
        assert {"map", "regions", "chart-rate", "chart-latency", "chart-lag"} <= set(reached)
        await page.value("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        await page.until("document.querySelectorAll('#chart-rate tbody tr').length")
        assert await page.value("document.querySelectorAll('#map-table tbody tr').length") > 0

    assert visit(shown, see).said == []


NAME_OF_FOCUSED = """((focused) => focused.className === "skip" ? "skip" : focused.id
  || focused.closest("#regions, figure")?.id || focused.tagName)(document.activeElement)"""


def test_token_is_asked_for_sent_and_kept_for_the_tab_only(shown: Server) -> None:
    """The shard has no keys: the page is told that it has, and what it then sends is looked at."""
    refusing = """(() => { const real = window.fetch; window.sent = [];
      window.fetch = (path, more) => {
        const given = more.headers.Authorization ?? null; window.sent.push(given);
        return given === "Bearer right" ? real(path, { ...more, headers: {} })
          : Promise.resolve(new Response("{}", { status: 401 })); }; })()"""

    async def see(page: Page) -> None:
        await page.until("document.getElementById('token')?.offsetParent")
        for given, then in (
            ("wrong", "document.getElementById('token-why').textContent"),
            ("right", "document.getElementById('token').hidden"),
        ):
            await page.value("document.getElementById('token-field').focus()")
            await page.call("Input.insertText", text=given)
            await page.press("Tab")
            await page.value("document.querySelector('#token button').click()")
            await page.until(then)
        await filled(page)
        assert "Bearer wrong" in await page.value("window.sent")
        held = json.loads(await page.value("JSON.stringify([{...sessionStorage}, {...localStorage}, document.cookie])"))
        assert held == [{"constellation-token": "right"}, {}, ""]

    assert visit(shown, see, refusing).said == []
