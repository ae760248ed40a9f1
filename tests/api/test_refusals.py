"""Whatever comes in, no 5xx goes out, and what is refused changed nothing: bodies made and broken by Hypothesis.

In this process, so that the state before and after can be compared whole.
"""

import base64
import copy
import logging
import math
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from constellation.model import SyncOptions
from tests.api import bodies
from tests.api.direct import Answered, Direct

SYNC = "/api/v1/sync"
DEVICES = [bodies.new_id() for _ in range(3)]
PATTERNS = [bodies.new_id() for _ in range(5)]
EMBEDDING = bodies.base64_embedding()
STRANGE: list[Any] = [
    None, True, -1, 0, 1, 1e999, -0.0, 2**53, 2**63, 2**64, 10**400, 1e-320, math.nan, "", "\0", "x" * 40,
    [], {}, [[]], [0.0] * 384, [1e38] * 384, [1e-45] * 384, EMBEDDING, EMBEDDING[:-1], b"", bytes(384), bytes(16),
]  # fmt: skip


def patterns() -> st.SearchStrategy[bodies.Json]:
    return st.builds(
        bodies.pattern,
        id=st.sampled_from(PATTERNS),
        embedding=st.just(EMBEDDING),
        success_rate=st.floats(0, 1),
        sample_count=st.integers(1, 1_000_000),
    )


@st.composite
def deltas(draw: st.DrawFn) -> bodies.Json:
    """A valid body; ids of few devices and patterns, so that deltas meet."""
    return bodies.body(
        *draw(st.lists(patterns(), max_size=3, unique_by=lambda pattern: pattern["id"])),
        device_id=draw(st.sampled_from(DEVICES)),
        patterns_updated=draw(
            st.lists(
                st.fixed_dictionaries(
                    {
                        "id": st.sampled_from(PATTERNS),
                        "new_success_rate": st.floats(0, 1),
                        "additional_samples": st.integers(1, 1_000_000),
                    }
                ),
                max_size=3,
            )
        ),
        patterns_removed=draw(st.lists(st.sampled_from(PATTERNS), max_size=3)),
        **draw(st.fixed_dictionaries({}, optional={"sequence": st.integers(1, 5), "local_version": st.integers(0, 9)})),
    )


@st.composite
def broken_deltas(draw: st.DrawFn) -> Any:
    """A valid body with one of its places, however deep, replaced or taken away."""
    body = copy.deepcopy(draw(deltas()))
    holder, key = draw(st.sampled_from(list(places(body))))
    if draw(st.booleans()) or isinstance(holder, list):
        holder[key] = draw(st.sampled_from(STRANGE) | st.integers() | st.floats() | st.text(max_size=50))
    else:
        del holder[key]
    return body


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys: Any = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from places(value[key])


@pytest.fixture(scope="module")
def direct() -> Iterator[Direct]:
    opened = Direct(max_devices=2)
    yield opened
    opened.close()


def state(direct: Direct) -> tuple[Any, ...]:
    """All that an outsider can see of the state: counts, version, and every device's answer."""
    shard = direct.service.shard
    options = SyncOptions(similar=100, trending=50, embedding="i8")
    answers = [shard.answer(bytes.fromhex(device.replace("-", "")), options) for device in DEVICES]
    return shard.global_version, direct.service.stats(), [(answer.digest, answer.trending) for answer in answers]


def check_refused_or_applied(direct: Direct, content: bytes, media_type: str) -> Answered:
    before = state(direct)
    reply = direct.post(SYNC, content, {"content-type": media_type})
    decode = msgspec.msgpack.decode if media_type.endswith("msgpack") else msgspec.json.decode
    if reply.status != 200:
        problem = decode(reply.content)
        # The one 503 that a device can bring about is that of a full shard: two devices are known, the third is not.
        assert reply.status in (400, 409, 413, 415, 422) or problem["code"] == "shard_full", problem
        assert state(direct) == before
    return reply


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(body=deltas(), packed=st.booleans())
def test_valid_deltas_are_applied_or_refused_for_a_reason_of_state(direct: Direct, body: Any, packed: bool) -> None:
    reply = send(direct, body, packed)
    assert reply.status in (200, 409, 503)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=300)
@given(body=broken_deltas(), packed=st.booleans())
def test_broken_deltas_change_nothing(direct: Direct, body: Any, packed: bool) -> None:
    send(direct, body, packed)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(content=st.binary(max_size=300), packed=st.booleans())
def test_any_bytes_are_refused(direct: Direct, content: bytes, packed: bool) -> None:
    reply = check_refused_or_applied(direct, content, "application/msgpack" if packed else "application/json")
    assert reply.status in (400, 422)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(body=deltas(), cut=st.integers(0, 4_000), flipped=st.integers(0, 255), packed=st.booleans())
def test_damaged_bodies_are_refused_or_still_valid(
    direct: Direct, body: Any, cut: int, flipped: int, packed: bool
) -> None:
    content = bytearray(msgspec.msgpack.encode(body) if packed else msgspec.json.encode(body))
    content[cut % len(content)] ^= flipped
    check_refused_or_applied(direct, bytes(content), "application/msgpack" if packed else "application/json")


def send(direct: Direct, body: Any, packed: bool) -> Answered:
    try:
        content = msgspec.msgpack.encode(with_bytes(body)) if packed else msgspec.json.encode(body)
    except OverflowError:  # msgpack has no integers beyond 64 bits
        content, packed = msgspec.json.encode(body), False
    return check_refused_or_applied(direct, content, "application/msgpack" if packed else "application/json")


def with_bytes(value: Any) -> Any:
    """As msgpack wants it: an embedding is no base64 there."""
    if isinstance(value, dict):
        return {key: with_bytes(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_bytes(inner) for inner in value]
    return base64.b64decode(EMBEDDING) if isinstance(value, str) and value == EMBEDDING else value


def test_unexpected_error_tells_the_id_and_logs_the_traceback(caplog: pytest.LogCaptureFixture) -> None:
    direct = Direct()
    direct.service.shard.answer = None  # type: ignore[assignment, method-assign]
    with caplog.at_level(logging.ERROR):
        reply = direct.post(SYNC, bodies.body(), {"x-request-id": "the-one"})
    direct.close()
    problem = reply.json()
    assert (reply.status, problem["code"], problem["instance"]) == (500, "internal", "the-one")
    assert "NoneType" not in reply.content.decode() and "Traceback" not in reply.content.decode()
    (record,) = caplog.records
    assert record.request_id == "the-one" and record.exc_info is not None  # type: ignore[attr-defined]


def test_broken_part_turns_readiness_off() -> None:
    direct = Direct()
    assert direct.get("/health/ready").status == 200
    direct.service.fail("upkeep", "ValueError()")
    ready = direct.get("/health/ready")
    assert (ready.status, ready.json()["code"]) == (503, "not_ready") and int(ready.headers["retry-after"]) > 0
    refused = direct.post(SYNC, bodies.body())
    assert (refused.status, refused.json()["code"]) == (503, "not_ready")
    assert direct.get("/health/detailed").json()["components"]["upkeep"]["detail"] == "ValueError()"
    assert b'constellation_shard_health{shard_id="shard-0"} 0.0' in direct.get("/metrics").content
    direct.close()
