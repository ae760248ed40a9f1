"""Whatever bytes come in, the status blames the caller, and what is refused changed nothing. Over a real socket."""

import asyncio
import base64
import os
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from constellation.api.grpc import sync_pb2 as pb
from constellation.model import SyncOptions
from tests.api import bodies
from tests.api.grpc.inside import Inside, opened, service_of
from tests.api.grpc.tv import request
from tests.api.test_refusals import DEVICES, deltas

SOAKING = os.environ.get("CONSTELLATION_SOAK") == "1"
EXAMPLES = 5_000 if SOAKING else 60
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
STRANGE = [
    0,
    1,
    -1,
    2**31 - 1,
    -(2**31),
    2**63 - 1,
    -(2**63),
    0.5,
    float("nan"),
    float("inf"),
    b"",
    bytes(16),
    bytes(384),
]


class Opened:
    """A small shard behind a port, and the loop that both ends run on."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._context = opened(service_of(max_devices=2))
        self.inside: Inside = self._runner.run(self._context.__aenter__())

    def push(self, message: bytes) -> grpc.StatusCode:
        return self._runner.run(self.inside.push(message))

    def close(self) -> None:
        self._runner.run(self._context.__aexit__(None, None, None))
        self._runner.close()

    def state(self) -> tuple[Any, ...]:
        """All that an outsider can see of the state."""
        service = self.inside.service
        options = SyncOptions(similar=100, trending=50, embedding="i8")
        answers = [service.shard.answer(bytes.fromhex(device.replace("-", "")), options) for device in DEVICES]
        return service.shard.global_version, service.stats(), [(each.digest, each.trending) for each in answers]


@pytest.fixture(scope="module")
def door() -> Iterator[Opened]:
    made = Opened()
    yield made
    made.close()


def check(door: Opened, message: bytes) -> None:
    before = door.state()
    status = door.push(message)
    assert status is grpc.StatusCode.OK or status in REFUSALS, status
    if status is not grpc.StatusCode.OK:
        assert door.state() == before


@settings(suppress_health_check=QUIET, max_examples=EXAMPLES, deadline=None)
@given(message=st.binary(max_size=300))
def test_any_bytes(door: Opened, message: bytes) -> None:
    check(door, message)


@settings(suppress_health_check=QUIET, max_examples=EXAMPLES, deadline=None)
@given(body=deltas(), place=st.integers(0, 4_000), flipped=st.integers(0, 255), cut=st.booleans())
def test_damaged_messages(door: Opened, body: bodies.Json, place: int, flipped: int, cut: bool) -> None:
    message = bytearray(request(readable(body)).SerializeToString())
    place %= len(message)
    message[place] ^= flipped
    check(door, bytes(message[:place] if cut else message))


@settings(suppress_health_check=QUIET, max_examples=EXAMPLES, deadline=None)
@given(body=deltas(), data=st.data())
def test_strange_values(door: Opened, body: bodies.Json, data: st.DataObject) -> None:
    push = request(readable(body))
    holder: Any = data.draw(st.sampled_from([push, push.options, push.delta, *push.delta.patterns_added]))
    field: Any = data.draw(st.sampled_from(list(holder.DESCRIPTOR.fields)))
    try:
        setattr(holder, field.name, data.draw(st.sampled_from(STRANGE)))
    except (TypeError, ValueError, AttributeError):  # of another type, or a message
        holder.ClearField(field.name)
    check(door, push.SerializeToString())


def test_many_tiny_submessages_are_refused(door: Opened) -> None:
    delta = pb.Delta(patterns_added=[pb.Pattern()] * 200_000)
    check(door, pb.PushRequest(device_id=bytes(16), delta=delta).SerializeToString())


def test_deep_nesting_is_refused(door: Opened) -> None:
    assert door.push(b"\x7b" * 100_000) is grpc.StatusCode.INVALID_ARGUMENT


def readable(body: bodies.Json) -> bodies.Json:
    """Embeddings as their floats' bytes, which JSON had in base64."""
    for pattern in body["delta"]["patterns_added"]:
        pattern["embedding"] = base64.b64decode(pattern["embedding"])
    return body
