"""Every error of the service as a gRPC status, in the states that bring it about."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha import reflection_pb2_grpc

from constellation import errors, limits
from constellation.api.grpc.problems import message_of, status_of, trailers_of
from constellation.api.slot_map import Place, SlotMap
from constellation.errors import NotReady, Problem, StorageFailed, WrongShard
from constellation.federation.database import MapEntry
from constellation.slots import SLOTS
from constellation.storage.keeper import NothingKept
from tests.api import bodies
from tests.api.grpc.inside import PUSH, Inside, refusal, run, service_of
from tests.api.grpc.tv import Refused, refused, request

OTHER = "http://10.0.0.2:8080"


def kinds(base: type[Problem] = Problem) -> Iterator[type[Problem]]:
    for kind in base.__subclasses__():
        yield kind
        yield from kinds(kind)


@pytest.mark.parametrize("kind", list(kinds()), ids=lambda kind: kind.__name__)
def test_every_problem_has_a_status_that_blames_nobody_else(kind: type[Problem]) -> None:
    problem = Problem("what is wrong")
    problem.__class__ = kind
    assert status_of(problem) not in (grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)


def test_words_of_the_contract() -> None:
    wrong_shard = WrongShard("elsewhere", url=OTHER)
    assert status_of(wrong_shard) is grpc.StatusCode.FAILED_PRECONDITION
    assert ("constellation-shard-url", OTHER) in trailers_of(wrong_shard)
    assert message_of(wrong_shard).shard_url == OTHER
    for kind in (errors.ShardFull, errors.Overloaded):
        assert status_of(kind("full", retry_after_s=3)) is grpc.StatusCode.RESOURCE_EXHAUSTED
    for passing in (errors.Draining, errors.NotReady, errors.Moving, errors.StorageFailed):
        problem = passing("later", retry_after_s=3)
        assert status_of(problem) is grpc.StatusCode.UNAVAILABLE
        assert dict(trailers_of(problem)) == {
            "constellation-code": passing.code,
            "retry-after": "3",
            "grpc-retry-pushback-ms": "3000",
        }
        assert message_of(problem).retry_after_s == 3


EMPTY = request(bodies.body()).SerializeToString()


async def push(inside: Inside, message: bytes = EMPTY) -> Refused:
    return refused(await refusal(inside.call(message)))


async def health(inside: Inside) -> Any:
    return await health_pb2_grpc.HealthStub(inside.channel).Check(HealthCheckRequest())


def test_shard_that_is_not_loaded_is_unavailable_and_not_serving() -> None:
    service = service_of()
    service.close(NotReady)

    async def work(inside: Inside) -> None:
        refusal = await push(inside)
        assert (refusal.status, refusal.code) == (grpc.StatusCode.UNAVAILABLE, "not_ready")
        assert 1 <= int(refusal.trailers["retry-after"]) <= 1 + 1.5 * limits.RETRY_AFTER_S
        watch = health_pb2_grpc.HealthStub(inside.channel).Watch(HealthCheckRequest(), timeout=20)
        assert (await watch.read()).status == (await health(inside)).status == HealthCheckResponse.NOT_SERVING
        service.open()
        assert (await health(inside)).status == HealthCheckResponse.SERVING
        assert (await watch.read()).status == HealthCheckResponse.SERVING
        assert await inside.push(EMPTY) is grpc.StatusCode.OK
        service.drain()
        assert (await push(inside)).code == "draining"
        assert (await watch.read()).status == HealthCheckResponse.NOT_SERVING

    run(work, service)


def test_device_of_another_shard_is_told_where_to_go() -> None:
    service = service_of()
    owner = MapEntry("other", service.settings.region, OTHER, [(0, SLOTS - 1)], 0, 0, True, 1, 0.0)
    service.map = SlotMap(Place(2, [owner], []), service.settings.region)

    async def work(inside: Inside) -> None:
        refusal = await push(inside)
        assert (refusal.status, refusal.code) == (grpc.StatusCode.FAILED_PRECONDITION, "wrong_shard")
        assert refusal.trailers["constellation-shard-url"] == OTHER
        stream = inside.stream()
        await stream.write(request(bodies.body()))
        problem = (await stream.read()).problem
        assert (problem.code, problem.shard_url) == ("wrong_shard", OTHER)
        await stream.done_writing()

    run(work, service)


class Full(NothingKept):
    """A disk that takes nothing."""

    def admit(self) -> None:
        raise StorageFailed("the disk is full", retry_after_s=7)


def test_storage_that_fails_is_unavailable() -> None:
    service = service_of()
    service.keeper = Full()

    async def work(inside: Inside) -> None:
        refusal = await push(inside)
        assert (refusal.status, refusal.code) == (grpc.StatusCode.UNAVAILABLE, "storage")
        assert refusal.trailers["retry-after"] == "7"

    run(work, service)
    assert service.stats().total_devices == 0


def test_too_much_in_flight_is_refused() -> None:
    async def work(inside: Inside) -> None:
        inside.service.in_flight = lambda: limits.IN_FLIGHT_MAX + 1
        refusal = await push(inside)
        assert (refusal.status, refusal.code) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "overloaded")

    run(work)


def test_what_brings_no_pattern_is_refused_first() -> None:
    telling = request(bodies.body(bodies.pattern())).SerializeToString()

    async def work(inside: Inside) -> None:
        inside.service.in_flight = lambda: limits.IN_FLIGHT_QUIET_MAX
        assert (await push(inside)).code == "overloaded"
        assert await inside.push(telling) is grpc.StatusCode.OK
        stream = inside.stream()
        await stream.write(request(bodies.body()))
        assert (await stream.read()).problem.code == "overloaded"
        await stream.done_writing()

    run(work)


def test_call_that_waits_for_its_message_takes_nobody_a_place() -> None:
    async def work(inside: Inside) -> None:
        waiting: Any = inside.channel.stream_unary(PUSH)(timeout=20)
        async with asyncio.timeout(20):
            while not inside.calls.in_flight:
                await asyncio.sleep(0)
        admission = inside.service.admission
        assert (inside.calls.in_flight, admission.awaiting_client, admission.queued) == (1, 1, 0)
        waiting.cancel()
        async with asyncio.timeout(20):
            while inside.calls.in_flight:
                await asyncio.sleep(0)
        assert (admission.awaiting_client, admission.queued) == (0, 0)

    run(work)


def test_unexpected_error_tells_the_id_and_logs_the_traceback(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*arguments: Any) -> Any:
        raise RuntimeError("the traceback")

    async def work(inside: Inside) -> None:
        inside.service.shard.answer = broken  # type: ignore[method-assign, assignment]
        with caplog.at_level(logging.ERROR):
            refusal = await push(inside)
        assert (refusal.status, refusal.code) == (grpc.StatusCode.INTERNAL, "internal")
        assert "the traceback" not in refusal.detail and "the traceback" in caplog.text
        assert caplog.records[0].__dict__["request_id"] == refusal.trailers["x-request-id"]

    run(work)


def test_message_that_does_not_arrive_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_READ_S_MAX", 0.01)

    async def work(inside: Inside) -> None:
        refusal_ = refused(await refusal(inside.channel.stream_unary(PUSH)(timeout=20)))
        assert (refusal_.status, refusal_.code) == (grpc.StatusCode.INVALID_ARGUMENT, "malformed")
        assert inside.calls.in_flight == 0

    run(work)


def test_streams_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STREAMS_MAX", 1)

    async def work(inside: Inside) -> None:
        first = inside.stream()
        await first.write(request(bodies.body()))
        assert (await first.read()).HasField("reply")
        assert refused(await refusal(inside.stream().read())).code == "overloaded"
        await first.done_writing()
        assert await first.code() is grpc.StatusCode.OK
        again = inside.stream()
        await again.write(request(bodies.body()))
        assert (await again.read()).HasField("reply")

    run(work)


def test_streams_that_ask_for_no_token_are_bounded_and_leave_room_for_tvs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STRANGERS_STREAMS_MAX", 1)

    async def work(inside: Inside) -> None:
        stub = health_pb2_grpc.HealthStub(inside.channel)
        first = stub.Watch(HealthCheckRequest(), timeout=20)
        assert (await first.read()).status == HealthCheckResponse.SERVING
        reflecting = reflection_pb2_grpc.ServerReflectionStub(inside.channel).ServerReflectionInfo(timeout=20)
        for another in (stub.Watch(HealthCheckRequest(), timeout=20), reflecting):
            assert (await refusal(another.read())).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await inside.push(EMPTY) is grpc.StatusCode.OK
        first.cancel()
        again = stub.Watch(HealthCheckRequest(), timeout=20)
        assert (await again.read()).status == HealthCheckResponse.SERVING

    run(work)


def test_stream_that_says_nothing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STREAM_IDLE_S_MAX", 0.01)

    async def work(inside: Inside) -> None:
        stream = inside.stream()
        assert await stream.read() is grpc.aio.EOF and await stream.code() is grpc.StatusCode.OK

    run(work)


def test_stream_that_waits_ends_when_the_process_does() -> None:
    async def work(inside: Inside) -> None:
        stream = inside.stream()
        await stream.write(request(bodies.body()))
        assert (await stream.read()).HasField("reply")
        inside.calls.close_streams()
        error = refused(await refusal(stream.read()))
        assert (error.status, error.code) == (grpc.StatusCode.UNAVAILABLE, "draining")

    run(work)


def test_call_that_its_client_gives_up_is_no_longer_in_flight() -> None:
    async def work(inside: Inside) -> None:
        call: Any = inside.channel.stream_unary(PUSH)(timeout=0.05)
        assert (await refusal(call)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert await inside.push(EMPTY) is grpc.StatusCode.OK
        assert inside.calls.in_flight == 0

    run(work)
