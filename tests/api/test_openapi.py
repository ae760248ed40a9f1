"""The OpenAPI document: complete, true to what is really answered, and shown without anything from elsewhere."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode, checks

from constellation.api.schemas import ContentBody, SyncBody
from constellation.wire.media import Media
from constellation.wire.sync import decode_sync
from tests.api import bodies
from tests.api.direct import Direct
from tests.api.process import Server, serving

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
)
"""Those in which something can be wrong."""
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


@pytest.fixture(scope="module")
def target() -> Iterator[Server]:
    """A shard of its own: what schemathesis sends is nobody's business."""
    with serving("--max-devices", "10000", "--max-patterns", "10000") as server:
        yield server


@pytest.fixture(scope="module")
def schema(target: Server) -> Any:
    return schemathesis.openapi.from_url(f"{target.url}/schema/openapi.json")


@pytest.mark.parametrize("call", CALLS)
def test_calls_as_described_are_answered_as_described(schema: Any, call: str) -> None:
    send(schema, call, GenerationMode.POSITIVE, CHECKS)


@pytest.mark.parametrize("call", CALLS_WITH_INPUT)
def test_calls_other_than_described_are_refused_as_described(schema: Any, call: str) -> None:
    send(schema, call, GenerationMode.NEGATIVE, [*CHECKS, checks.negative_data_rejection])


def send(schema: Any, call: str, mode: GenerationMode, expected: list[Any]) -> None:
    method, path = call.split()

    @settings(max_examples=EXAMPLES_MAX, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    def run(case: schemathesis.Case[Any]) -> None:
        case.call_and_validate(checks=expected)

    run()


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
    assert set(sync["responses"]) == {"200", "307", "400", "409", "413", "415", "422", "429", "500", "503"}
    assert set(sync["responses"]["200"]["content"]) == {"application/json", "application/msgpack"}
    assert all("Retry-After" in sync["responses"][status]["headers"] for status in ("429", "503"))


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
