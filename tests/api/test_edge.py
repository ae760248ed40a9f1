"""Request ids and the access log."""

import json

import httpx
import pytest

from tests.api import bodies
from tests.api.process import Server, serving, wait_for

SYNC = "/api/v1/sync"


@pytest.mark.parametrize("path", ["/health", "/nothing", SYNC])
def test_every_reply_has_an_id_of_its_own(client: httpx.Client, path: str) -> None:
    ids = {client.get(path).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3 and all(ids)


@pytest.mark.parametrize("given", ["7f3a-1", "x" * 64])
def test_sane_id_is_kept(client: httpx.Client, given: str) -> None:
    assert client.get("/health", headers={"X-Request-Id": given}).headers["x-request-id"] == given
    refused = client.get("/nothing", headers={"X-Request-Id": given})
    assert refused.headers["x-request-id"] == given == refused.json()["instance"]


@pytest.mark.parametrize("given", ["x" * 65, "", "two words", "tab\tbed", "ü"])
def test_other_id_is_replaced(client: httpx.Client, given: str) -> None:
    reply = client.get("/health", headers={b"X-Request-Id": given.encode("latin-1")})
    assert reply.status_code == 200 and reply.headers["x-request-id"] not in ("", given)


def test_access_log_has_one_line_a_request() -> None:
    def lines(server: Server) -> list[dict[str, object]]:
        return [json.loads(line) for line in server.output.read_text().splitlines() if line.startswith("{")]

    with serving("--access-log") as server, httpx.Client(base_url=server.url) as client:
        client.post(SYNC, json=bodies.body(), headers={"X-Request-Id": "first"})
        client.get("/nothing", headers={"X-Request-Id": "second"})
        wait_for(lambda: len(lines(server)) == 2)
        first, second = lines(server)
    assert (first["request_id"], first["method"], first["path"], first["status"]) == ("first", "POST", SYNC, 200)
    assert (second["request_id"], second["status"]) == ("second", 404)
    assert isinstance(first["bytes_in"], int) and first["bytes_in"] > 100
