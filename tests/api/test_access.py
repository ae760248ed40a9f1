"""The table of calls and scopes, held against a shard with keys over a real socket: who hears what, and nobody more."""

import re
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from constellation.api import app as application
from constellation.api.access import ACCESS, ANY, OPEN
from constellation.identity import SCOPES, read_issuer
from constellation.identity.issuing import make_keys
from tests.api import bodies
from tests.api.process import Server, serving, wait_for
from tests.identity.fleet import DEVICE_ID, HOUR_S, REVOKED_DEVICE_ID, Fleet, bearer

SYNC = "/api/v1/sync"
PLACES = {"content_id": "tt0078748", "version": "1", "id": "32769", "device_id": DEVICE_ID}
CALLS = [call.split(" ") for call in ACCESS]
CLOSED = [(method, path) for method, path in CALLS if ACCESS[f"{method} {path}"] != OPEN]
ELSEWHERE = [
    ("GET", "/nothing"),
    ("GET", SYNC),
    ("OPTIONS", SYNC),
    ("POST", "/health"),
    ("GET", "/health/"),
    ("GET", "/api//v1"),
]
"""Addresses and methods that there are not, or that are nobody's to know."""


class Guarded(NamedTuple):
    """A shard that asks for tokens, and who issues them."""

    server: Server
    fleet: Fleet
    client: httpx.Client

    def call(self, method: str, path: str, token: str, **request: object) -> httpx.Response:
        address = path.format(**PLACES)
        request.setdefault("json", bodies.body(device_id=DEVICE_ID) if path == SYNC and method == "POST" else None)
        with self.client.stream(method, address, headers=bearer(token), **request) as reply:  # type: ignore[arg-type]
            if reply.headers.get("content-type") != "text/event-stream":  # which never ends
                reply.read()
            return reply


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))
    with (
        serving(*fleet.options, "--max-devices", "1000", "--max-patterns", "10000") as server,
        httpx.Client(base_url=server.url, timeout=30, headers={"Accept-Encoding": "identity"}) as client,
    ):
        shard = Guarded(server, fleet, client)
        assert shard.call("POST", "/api/v1/content", fleet.issue("content"), json=bodies.content()).status_code == 201
        yield shard


def unauthenticated(reply: httpx.Response) -> str:
    """That it is one, and tells nothing else; the challenge."""
    problem = reply.json()
    assert (reply.status_code, problem["code"]) == (401, "unauthenticated"), problem
    assert reply.headers["content-type"] == "application/problem+json"
    assert set(problem) == {"type", "title", "status", "code", "detail", "instance"}
    return reply.headers["www-authenticate"]


def test_every_handler_has_a_row_and_every_row_a_handler() -> None:
    handlers = (*application.HANDLERS, application.metrics)
    served = {
        f"{method} {re.sub(':[a-z]+}', '}', path)}"
        for handler in handlers
        for path in handler.paths
        for method in handler.http_methods
    }
    assert served == set(ACCESS)


def test_the_documented_table_is_this_one() -> None:
    text = (Path(__file__).parents[2] / "docs/identity.md").read_text()
    rows = re.findall(r"^\| `([A-Z]+ /[^`]*)` \| ([^|]+) \|", text, re.M)
    documented = {call: scopes.strip() for call, scopes in rows}
    spelled = {
        call: "open" if allowed == OPEN else "any" if allowed == ANY else ", ".join(s for s in SCOPES if s in allowed)
        for call, allowed in ACCESS.items()
    }
    assert documented == spelled


def test_nothing_but_health_and_the_page_is_open(guarded: Guarded) -> None:
    assert {call for call, allowed in ACCESS.items() if allowed == OPEN} == {
        "GET /",
        "GET /page/{name}",
        "GET /health",
        "GET /health/live",
        "GET /health/ready",
    }
    for path in ("/health", "/health/live", "/health/ready", "/", "/page/page.css"):
        assert guarded.client.get(path, headers=bearer("nonsense")).status_code == 200


def test_bad_tokens_hear_the_same_wherever_they_ask(guarded: Guarded) -> None:
    before = guarded.client.get("/api/v1/stats", headers=bearer(guarded.fleet.issue("admin"))).json()
    for what, token in guarded.fleet.bad().items():
        for method, path in [*CLOSED, *ELSEWHERE]:
            challenge = unauthenticated(guarded.call(method, path, token))
            expected = 'Bearer realm="constellation"' + (
                ', error="invalid_token", error_description="' if token else ""
            )
            assert challenge.startswith(expected) and (token or challenge == expected), (what, challenge)
    after = guarded.client.get("/api/v1/stats", headers=bearer(guarded.fleet.issue("admin"))).json()
    assert all(after[name] == before[name] for name in ("total_devices", "patterns_stored", "content_items"))


@pytest.mark.parametrize("wrong", ["soon", "1", "-5", "9" * 9])
def test_header_that_is_wrong_is_told_to_whoever_is_known_alone(guarded: Guarded, wrong: str) -> None:
    headers = {"X-Request-Deadline-Ms": wrong}
    for method, path in [*CLOSED, *ELSEWHERE]:
        unauthenticated(guarded.client.request(method, path.format(**PLACES), headers=headers | bearer("abc")))
    for path, token in (("/api/v1/info", guarded.fleet.issue("device")), ("/health", "")):
        problem = guarded.client.get(path, headers=headers | bearer(token)).json()
        assert (problem["status"], problem["path"]) == (422, "header.X-Request-Deadline-Ms")


def test_refusal_says_no_more_than_the_signature_allows(guarded: Guarded) -> None:
    bad = guarded.fleet.bad()
    details = {what: guarded.call("GET", "/api/v1/info", token).json()["detail"] for what, token in bad.items()}
    assert "expired" in details["expired"] and "revoked" in details["revoked by jti"]
    assert "audience" in details["wrong audience"] and "not valid yet" in details["not yet valid"]
    strangers = ("nonsense", "cut", "foreign key", "foreign key under our name", "alg none", "unknown name")
    assert {details[what] for what in strangers} == {"the token is not one of this fleet"}


def test_msgpack_clients_are_refused_in_msgpack(guarded: Guarded) -> None:
    reply = guarded.client.post(SYNC, content=b"\xc1", headers={"Content-Type": "application/msgpack"})
    assert reply.status_code == 401 and reply.headers["content-type"] == "application/msgpack"


@pytest.mark.parametrize("scope", SCOPES)
def test_each_scope_opens_its_calls_and_no_others(guarded: Guarded, scope: str) -> None:
    token = guarded.fleet.signed({"scope": scope})
    for method, path in CLOSED:
        allowed = ACCESS[f"{method} {path}"]
        reply = guarded.call(method, path, token, **({"json": bodies.content()} if path.endswith("/content") else {}))
        if scope in allowed:
            assert reply.status_code in (200, 201, 204), (method, path, reply.text)
        else:
            assert (reply.status_code, reply.json()["code"]) == (403, "forbidden"), (method, path)
            wanted = " ".join(sorted(allowed))
            assert reply.headers["www-authenticate"].endswith(f'error="insufficient_scope", scope="{wanted}"')


def test_token_without_scopes_opens_nothing(guarded: Guarded) -> None:
    for scope in ("", "openid", None):
        token = guarded.fleet.signed({"scope": scope})
        assert {guarded.call(method, path, token).status_code for method, path in CLOSED} == {403}


def test_whoever_is_known_hears_of_wrong_addresses(guarded: Guarded) -> None:
    token = guarded.fleet.issue("metrics")
    assert guarded.call("GET", "/nothing", token).status_code == 404
    assert guarded.call("GET", SYNC, token).status_code == 405


def test_token_of_another_device_changes_nothing(guarded: Guarded) -> None:
    fleet, other = guarded.fleet, str(uuid.uuid4())
    admin = fleet.issue("admin", subject="operator")
    assert guarded.call("POST", SYNC, fleet.issue("device"), json=a_delta(DEVICE_ID)).status_code == 200
    before = guarded.call("GET", "/api/v1/stats", admin).json()
    for scopes in (("device",), ("device", "content", "metrics")):
        token = fleet.issue(*scopes, subject=other)
        for reply in (
            guarded.call("POST", SYNC, token, json=a_delta(DEVICE_ID)),
            guarded.call("DELETE", "/api/v1/devices/{device_id}", token),
        ):
            assert (reply.status_code, reply.json()["code"]) == (403, "forbidden"), reply.text
    # An operator forgets whom it is told to, but syncs for nobody; whatever else it may.
    assert guarded.call("POST", SYNC, fleet.issue("admin", "device", subject=other)).status_code == 403
    after = guarded.call("GET", "/api/v1/stats", admin).json()
    assert all(after[name] == before[name] for name in ("total_devices", "patterns_stored", "global_version"))
    assert guarded.call("DELETE", "/api/v1/devices/{device_id}", fleet.issue("device")).status_code == 204
    assert guarded.call("POST", SYNC, fleet.issue("device"), json=a_delta(DEVICE_ID)).status_code == 200
    assert guarded.call("DELETE", "/api/v1/devices/{device_id}", admin).status_code == 204
    assert guarded.call("GET", "/api/v1/stats", admin).json()["patterns_stored"] == before["patterns_stored"] - 1


def a_delta(device_id: str) -> bodies.Json:
    return bodies.body(bodies.pattern(), device_id=device_id)


def test_metrics_port_asks_too_and_tells_readiness(guarded: Guarded) -> None:
    address = guarded.server.metrics_url
    with httpx.Client() as client:
        unauthenticated(client.get(address))
        assert client.get(address, headers=bearer(guarded.fleet.issue("device"))).status_code == 403
        reply = client.get(address, headers=bearer(guarded.fleet.issue("metrics")))
        assert 'constellation_problems_total{code="unauthenticated"' in reply.text
        assert client.get(address.replace("/metrics", "/health/ready")).status_code == 200


def test_proxy_in_front_of_a_shard_with_keys_is_no_matter(guarded: Guarded) -> None:
    headers = {**bearer(guarded.fleet.issue("device")), "X-Forwarded-For": "192.0.2.1"}
    assert guarded.client.get("/api/v1/info", headers=headers).status_code == 200


def test_document_tells_scopes_and_refusals(guarded: Guarded) -> None:
    document = guarded.call("GET", "/schema/openapi.json", guarded.fleet.issue("admin")).json()
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    for method, path in CALLS:
        described, allowed = document["paths"][path][method.lower()], ACCESS[f"{method} {path}"]
        assert described["security"] == [{"token": [scope]} for scope in sorted(allowed)]
        assert ("401" in described["responses"]) == ("403" in described["responses"]) == bool(allowed)
        if allowed:
            assert "WWW-Authenticate" in described["responses"]["401"]["headers"]


def test_keys_and_revocations_are_read_again_without_a_restart(guarded: Guarded, tmp_path: Path) -> None:
    """Once when the process is told to, once when it finds out by itself."""
    fleet, client = guarded.fleet, guarded.client

    def status(token: str) -> int:
        return client.get("/api/v1/info", headers=bearer(token)).status_code

    token = fleet.signed({"jti": "lost"})
    assert status(token) == 200
    fleet.revocations.write_text(f"{REVOKED_DEVICE_ID}\nrevoked-token\nlost\n")
    guarded.server.child.send_signal(signal.SIGHUP)
    wait_for(lambda: status(token) == 401)
    make_keys(tmp_path / "next.pem", fleet.public)
    issued = read_issuer(tmp_path / "next.pem").issue(DEVICE_ID, ["device"], HOUR_S)
    wait_for(lambda: status(issued) == 200, 60)
    assert status(fleet.issue("device")) == 200, "the old key is still in the file"


@pytest.mark.parametrize("name", ["Forwarded", "X-Forwarded-For", "x-forwarded-proto", "X-Forwarded-Host"])
@pytest.mark.parametrize(("method", "path"), [("POST", SYNC), ("GET", "/health"), ("GET", "/nothing")])
def test_without_keys_what_a_proxy_passes_on_is_refused(
    client: httpx.Client, name: str, method: str, path: str
) -> None:
    reply = client.request(method, path, headers={name: "192.0.2.1"})
    assert (reply.status_code, reply.json()["code"]) == (403, "forbidden")
    assert "--token-keys" in reply.json()["detail"] and name.lower() in reply.json()["detail"]
