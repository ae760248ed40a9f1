"""The page from outside without a browser: its files, its policy, and what a stream tells over a real socket."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from constellation.api.page import events
from constellation.api.page.drawing import Map
from constellation.api.page.history import COLUMNS
from tests.api import bodies
from tests.api.process import Server, serving

KINDS = {
    "history": events.History, "now": events.Now, "taste": events.Taste, "trends": events.Trends,
    "rounds": events.Rounds, "map": Map,
}  # fmt: skip
LIVE = "/api/v1/live"


def told(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    """Events of a stream, each checked against its type."""
    kind = ""
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            msgspec.json.decode(value, type=KINDS[kind], strict=True)
            yield kind, msgspec.json.decode(value)


def names(client: httpx.Client) -> list[str]:
    return re.findall(r'(?:src|href)="(page/[^"]+)"', client.get("/").text)


def test_page_and_its_files_are_served_under_a_policy_that_allows_nothing_else(client: httpx.Client) -> None:
    for path in ("/", *(f"/{name}" for name in names(client))):
        reply = client.get(path)
        assert reply.status_code == 200
        policy = reply.headers["content-security-policy"]
        assert policy.startswith("default-src 'none';") and "unsafe" not in policy and "http" not in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
    assert {name.rsplit(".", 1)[1] for name in names(client)} == {"css", "js", "svg"}


def test_page_has_nothing_inline_and_nothing_from_elsewhere(client: httpx.Client) -> None:
    page = client.get("/").text
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", page)
    assert all("src=" in script for script in re.findall(r"<script[^>]*>", page))
    for path in ("/", *(f"/{name}" for name in names(client))):
        links = set(re.findall(r"https?://[^\"'\s)]+", client.get(path).text))
        assert links <= {"http://www.w3.org/2000/svg"}


def test_page_says_something_without_javascript_and_can_be_skipped(client: httpx.Client) -> None:
    page = client.get("/").text
    said = re.search(r"<noscript>(.*?)</noscript>", page, re.S)
    assert said is not None and "JavaScript" in said[1] and "api/v1/stats" in said[1]
    assert page.index('class="skip" href="#main"') < page.index("<header")
    assert '<html lang="en">' in page and "<main" in page


def test_unknown_file_is_not_found(client: httpx.Client) -> None:
    for name in ("secret.py", "..%2Fservice.py", "__init__.py"):
        reply = client.get(f"/page/{name}")
        assert (reply.status_code, reply.json()["code"]) == (404, "not_found")


@pytest.fixture(scope="module")
def drained() -> Iterator[Server]:
    with serving("--max-devices", "10000", "--max-patterns", "10000", "--region", "us-east") as server:
        yield server


def test_stream_tells_everything_and_ends_when_the_process_drains(drained: Server) -> None:
    seen: dict[str, Any] = {}
    with httpx.Client(base_url=drained.url, timeout=60) as client:
        client.post("/api/v1/content", json=bodies.content())
        for seed in range(3):
            client.post("/api/v1/sync", json=bodies.body(bodies.pattern(embedding=bodies.embedding(seed))))
        with client.stream("GET", LIVE) as reply:
            assert reply.status_code == 200 and reply.headers["content-type"] == "text/event-stream"
            coming = told(reply.iter_lines())
            for kind, data in coming:
                seen[kind] = data
                if seen.keys() >= KINDS.keys():
                    break
            check(seen, client)
            drained.terminate()
            for _ in coming:  # until the end that it should have: one cut off raises
                pass
    assert drained.wait() == 0


def check(seen: dict[str, Any], client: httpx.Client) -> None:
    assert seen["history"]["region"] == "us-east" and list(seen["history"]["columns"]) == list(COLUMNS)
    stats = client.get("/api/v1/stats").json()
    assert (
        (seen["now"]["devices"], seen["now"]["patterns"])
        == (stats["total_devices"], stats["patterns_stored"])
        == (3, 3)
    )
    assert seen["now"]["status"] == "ready" and seen["now"]["storage"] is None and seen["now"]["listeners"] == 1
    assert sum(seen["taste"]["patterns"]) == 3 and set(seen["taste"]["success"]) == {0.91}
    assert len(seen["map"]["x"]) == len(seen["map"]["titles"]) == 1024
    assert seen["map"]["titles"][0] == ["Alien (1979)"] and seen["map"]["genres"][0] == "horror"
    assert seen["trends"]["regions"][0]["region"] == "us-east"
    assert seen["rounds"] == {"federated": False, "rounds": []}
