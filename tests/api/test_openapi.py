"""The OpenAPI document: complete, true to what is really answered, and shown without anything from elsewhere."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import jsonschema_rs
import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from schemathesis import GenerationMode, checks
from schemathesis.core.parameters import ParameterLocation

from constellation.api.access import ACCESS, OPEN
from constellation.api.schemas import ContentBody, SyncBody
from constellation.wire.ids import parse_uuid
from constellation.wire.media import Media
from constellation.wire.sync import decode_sync
from tests.api import bodies
from tests.api.direct import Direct
from tests.api.process import serving
from tests.identity.fleet import DEVICE_ID, Fleet, bearer

EXAMPLES_MAX = 25
"""For each call and kind of input; the whole run stays well below a minute."""
CALLS = (
    "POST /api/v1/sync",
    "GET /api/v1/sync/version",
    "GET /api/v1/trending",
    "GET /api/v1/stats",
    "GET /api/v1/shards",
    "GET /api/v1/info",
    "POST /api/v1/content",
    "GET /api/v1/content/{content_id}",
    "DELETE /api/v1/devices/{device_id}",
    "GET /api/v1/codebook/{version}",
    "GET /api/v1/dictionary/{id}",
    "GET /api/v1/sample",
    "GET /api/v1/live",
    "GET /",
    "GET /page/{name}",
    "GET /health",
    "GET /health/live",
    "GET /health/ready",
    "GET /health/detailed",
    "GET /metrics",
    "GET /schema",
    "GET /schema/openapi.json",
)
CALLS_WITH_INPUT = (
    "POST /api/v1/sync",
    "GET /api/v1/trending",
    "POST /api/v1/content",
    "DELETE /api/v1/devices/{device_id}",
    "GET /api/v1/codebook/{version}",
    "GET /api/v1/dictionary/{id}",
    "GET /api/v1/sample",
    "GET /page/{name}",
)
"""Those in which something can be wrong."""
ENDLESS = "GET /api/v1/live"
"""Nothing that reads a reply to its end may ask for this one; tests/api/page reads it as long as it likes."""
REFUSALS = ["400", "403", "404", "405", "406", "413", "415", "422"]
"""How what is wrong may be refused; schemathesis alone would not have that a body is too long."""
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


class Target(NamedTuple):
    """The document of a shard that asks for tokens, and tokens: of all scopes, and of none."""

    schema: Any
    token: str
    scopeless: str


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A shard of its own: what schemathesis sends is nobody's business."""
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))
    with serving("--max-devices", "10000", "--max-patterns", "10000", *fleet.options) as server:
        token = fleet.signed()
        expected = {"negative_data_rejection": {"expected-statuses": REFUSALS}}
        config = schemathesis.Config.from_dict({"checks": expected})
        url = f"{server.url}/schema/openapi.json"
        schema = schemathesis.openapi.from_url(url, config=config, headers=bearer(token))
        yield Target(schema, token, fleet.signed({"scope": ""}))


@pytest.mark.parametrize("call", sorted({*CALLS} - {ENDLESS}))
def test_calls_as_described_are_answered_as_described(target: Target, call: str) -> None:
    send(target, call, GenerationMode.POSITIVE, CHECKS)


@pytest.mark.parametrize("call", CALLS_WITH_INPUT)
def test_calls_other_than_described_are_refused_as_described(target: Target, call: str) -> None:
    send(target, call, GenerationMode.NEGATIVE, [*CHECKS, checks.negative_data_rejection])


@pytest.mark.parametrize("call", sorted({*CALLS} - {ENDLESS}))
def test_calls_without_token_or_scope_are_refused_as_described(target: Target, call: str) -> None:
    method, path = call.split()

    @settings(max_examples=2, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(case=target.schema[path][method].as_strategy(generation_mode=GenerationMode.POSITIVE))
    def run(case: schemathesis.Case[Any]) -> None:
        for token, status in (("forged", 401), (target.scopeless, 403)):
            reply = case.call(headers=bearer(token))
            assert reply.status_code == status or ACCESS[call] == OPEN
            case.validate_response(reply, checks=CHECKS)

    run()


def is_ours_to_refuse(case: schemathesis.Case[Any]) -> bool:
    """Not because of a parameter that nobody knows, which is ignored, or of a token that is missing, which we send."""
    assert case.meta is not None
    wrong = {place for place, made in case.meta.components.items() if made.mode is GenerationMode.NEGATIVE}
    known = {parameter.name for parameter in case.operation.query}
    return bool(wrong - {ParameterLocation.HEADER, ParameterLocation.QUERY}) or (
        ParameterLocation.QUERY in wrong and set(case.query or ()) <= known
    )


def send(target: Target, call: str, mode: GenerationMode, expected: list[Any]) -> None:
    """With the token of a device; what says another one is about this one, and else as it was made up."""
    method, path = call.split()
    schema = target.schema

    @settings(max_examples=EXAMPLES_MAX, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    def run(case: schemathesis.Case[Any]) -> None:
        assume(mode is GenerationMode.POSITIVE or is_ours_to_refuse(case))
        if isinstance(case.body, dict) and is_uuid(case.body.get("device_id")):
            case.body["device_id"] = DEVICE_ID
        case.call_and_validate(checks=expected, headers=bearer(target.token))

    run()


def is_uuid(value: object) -> bool:
    return isinstance(value, str) and parse_uuid(value) is not None


@pytest.fixture(scope="module")
def document(client: httpx.Client) -> Any:
    return client.get("/schema/openapi.json").json()


def validator(document: Any, name: str) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for({"$ref": f"#/components/schemas/{name}", "components": document["components"]})


def test_document_is_openapi_3_1_and_describes_every_call_of_the_contract(document: Any) -> None:
    assert document["openapi"].startswith("3.1")
    calls = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert calls == set(CALLS)


def test_sync_is_described_with_its_parameters_types_and_problems(document: Any) -> None:
    sync = document["paths"]["/api/v1/sync"]["post"]
    assert {"similar", "trending", "embedding", "codebook", "X-Device-Id"} <= {p["name"] for p in sync["parameters"]}
    assert "application/msgpack" in sync["requestBody"]["content"]
    assert set(sync["responses"]) == {"200", "307", "400", "403", "409", "413", "415", "422", "429", "500", "503"}
    assert set(sync["responses"]["200"]["content"]) == {"application/json", "application/msgpack"}
    assert all("Retry-After" in sync["responses"][status]["headers"] for status in ("429", "503"))


def test_live_is_described_as_it_is_answered(document: Any, client: httpx.Client) -> None:
    told = document["paths"]["/api/v1/live"]["get"]["responses"]
    assert set(told) == {"200", "403", "500", "503"} and set(told["200"]["content"]) == {"text/event-stream"}
    with client.stream("GET", "/api/v1/live") as reply:
        assert reply.status_code == 200 and reply.headers["content-type"] == "text/event-stream"
        assert {name.lower() for name in told["200"]["headers"]} <= set(reply.headers)


def test_real_bodies_and_replies_fit_the_document(document: Any) -> None:
    direct = Direct()
    vector = bodies.embedding(1)
    for pattern in (bodies.pattern(embedding=vector), bodies.pattern(embedding=bodies.base64_embedding(1))):
        body = bodies.body(pattern, sequence=1)
        validator(document, "SyncBody").validate(body)
        for form in ("f32", "f16", "i8"):
            reply = direct.post(f"/api/v1/sync?embedding={form}", body)
            assert reply.status == 200
            validator(document, "SyncReply").validate(reply.json())
    assert reply.json()["global"]["similar"]
    direct.post("/api/v1/content", bodies.content())
    validator(document, "ContentBody").validate(direct.get("/api/v1/content/tt0078748").json())
    validator(document, "ProblemBody").validate(direct.post("/api/v1/sync", {}).json())
    direct.close()


@pytest.mark.parametrize(
    "change",
    [{"success_rate": 1.1}, {"sample_count": 0}, {"embedding": [0.1] * 385}, {"embedding": "AAAA"}, {"created_at": -1}],
)
def test_what_the_document_forbids_the_wire_refuses(document: Any, change: bodies.Json) -> None:
    body = bodies.body(bodies.pattern(**change))
    assert not validator(document, "SyncBody").is_valid(body)
    with pytest.raises(Exception, match=r"delta\.patterns_added\[0\]"):
        decode_sync(msgspec.json.encode(body), Media.JSON)


def test_fields_of_the_document_are_those_of_the_contract() -> None:
    assert [field.name for field in msgspec.structs.fields(SyncBody)] == ["device_id", "delta"]
    content = {field.name for field in msgspec.structs.fields(ContentBody)}
    assert content == {"content_id", "title", "embedding", "metadata"}


def test_viewer_loads_nothing_from_elsewhere(client: httpx.Client) -> None:
    reply = client.get("/schema")
    assert reply.status_code == 200 and reply.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in reply.headers["content-security-policy"]
    assert re.findall(r"(?:src|href|url)\s*[=(:]\s*[\"']?(?:https?:)?//", reply.text) == []
