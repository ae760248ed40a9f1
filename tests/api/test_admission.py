"""Who gets in, who waits how long, and how load is told: a clock that is turned by hand."""

import itertools
from typing import Any

import pytest

from constellation import limits
from constellation.api.admission import CAPACITY_FIRST_PER_S, PLACES, Admission, Class, classify, next_sync_at
from constellation.config import Settings
from constellation.errors import RateLimited
from constellation.shard import Shard
from tests.api import bodies
from tests.api.direct import Direct
from tests.shard.material import START, id_of, request

SYNC = "/api/v1/sync"


class Hand:
    """An admission, what is in flight, and its clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.in_flight = 0
        self.admission = Admission(lambda: self.in_flight, lambda: self.now, lambda: 0.5)

    def sample(self, seconds: float, busy: float) -> None:
        """So many seconds pass, of which the loop works a share."""
        for _ in range(round(seconds / 0.05)):
            self.admission.sample(0.05, 0.05 * busy, 0.0)


@pytest.mark.parametrize(
    ("method", "path", "body_bytes", "kind"),
    [
        ("POST", SYNC, 2_000, Class.TELLING),
        ("POST", SYNC, None, Class.TELLING),
        ("POST", SYNC, 58, Class.QUIET),
        ("GET", "/api/v1/trending", 0, Class.OTHER),
        ("POST", "/api/v1/content", 2_000, Class.OTHER),
        ("GET", "/health/ready", 0, Class.VITAL),
        ("GET", "/metrics", 0, Class.VITAL),
    ],
)
def test_requests_are_told_apart_by_what_can_wait(method: str, path: str, body_bytes: int | None, kind: Class) -> None:
    assert classify(method, path, body_bytes) is kind


def test_what_can_wait_is_refused_first() -> None:
    hand = Hand()
    taken: dict[int, list[Class]] = {}
    for in_flight in (0, *(int(PLACES[kind]) for kind in (Class.OTHER, Class.QUIET, Class.TELLING)), 10**6):
        hand.in_flight = in_flight
        taken[in_flight] = [kind for kind in Class if hand.admission.has_room(kind)]
    kinds = [Class.OTHER, Class.QUIET, Class.TELLING, Class.VITAL]
    assert list(taken.values()) == [kinds, kinds[1:], kinds[2:], kinds[3:], kinds[3:]]


def test_who_waits_for_its_own_client_takes_no_place() -> None:
    hand = Hand()
    hand.in_flight = hand.admission.awaiting_client = 10_000
    assert hand.admission.has_room(Class.OTHER) and not hand.admission.crowded


def test_refused_requests_are_asked_to_come_again_one_after_the_other() -> None:
    hand = Hand()
    waits = [hand.admission.overloaded("no_room").retry_after_s for _ in range(int(10 * CAPACITY_FIRST_PER_S))]
    assert waits == sorted(waits) and waits[0] == 1 and 6 <= waits[-1] <= 8
    hand.now = 20.0
    assert hand.admission.overloaded("no_room").retry_after_s == 1, "all of them have come"
    for _ in range(10**6):
        longest = hand.admission.overloaded("no_room").retry_after_s
    assert longest == limits.RETRY_AFTER_S_MAX + 1


def test_next_sync_grows_smoothly_with_load_and_falls_again() -> None:
    hand = Hand()
    calm = hand.admission.next_sync
    assert (calm.after_s, calm.within_s) == (limits.NEXT_SYNC_AFTER_S, limits.NEXT_SYNC_WITHIN_S)
    hand.sample(60, busy=0.6)
    assert hand.admission.next_sync == calm
    told = [next_sync_at(load / 100).after_s for load in range(101)]
    assert told == sorted(told) and max(b / a for a, b in itertools.pairwise(told)) < 1.1
    hand.sample(60, busy=1.0)
    assert hand.admission.next_sync.after_s == limits.NEXT_SYNC_AFTER_S * limits.NEXT_SYNC_STRETCH_MAX
    hand.sample(60, busy=0.1)
    assert hand.admission.next_sync == calm


def test_work_that_fills_spare_time_is_no_load() -> None:
    hand = Hand()
    for _ in range(1_000):
        hand.admission.spare_s += 0.045
        hand.admission.sample(0.05, 0.05, 0.0)
    assert hand.admission.load < 0.2


def test_refusals_and_a_late_loop_are_full_load() -> None:
    late, refusing = Hand(), Hand()
    for _ in range(1_000):
        late.admission.sample(0.5, 0.1, 0.45)
        refusing.admission.overloaded("no_room")
        refusing.admission.sample(0.05, 0.01, 0.0)
    assert late.admission.load > 0.99 and refusing.admission.load > 0.99


def _shard(**limited: int) -> Shard:
    return Shard(Settings(max_devices=10, max_patterns=100, **limited))  # type: ignore[arg-type]


def test_a_device_that_syncs_too_often_is_refused_until_there_is_a_token() -> None:
    shard = _shard(device_syncs_per_min=30, device_burst=5)
    shard.apply(request(1), START)
    for _ in range(5):
        shard.charge(id_of(1), START)
    for later, wait_s in ((0.0, 2), (0.5, 2), (1.5, 1)):
        with pytest.raises(RateLimited) as refused:
            shard.charge(id_of(1), START + later)
        assert refused.value.retry_after_s == wait_s
    shard.charge(id_of(1), START + 2)
    with pytest.raises(RateLimited):
        shard.charge(id_of(1), START + 2)
    for _ in range(5):
        shard.charge(id_of(1), START + 100)
    with pytest.raises(RateLimited):
        shard.charge(id_of(1), START + 100)
    with pytest.raises(RateLimited) as refused:
        shard.charge(id_of(1), START - 10**6)
    assert refused.value.retry_after_s == 2, "a clock that was set back is no debt"


def test_others_are_not_held_to_what_one_device_does() -> None:
    shard = _shard(device_syncs_per_min=1, device_burst=1)
    for number in (1, 2):
        shard.apply(request(number), START)
        shard.charge(id_of(number), START)
    for _ in range(10):
        shard.charge(id_of(3), START)  # not known
    shard.forget(id_of(1), START)
    shard.apply(request(4), START)
    shard.charge(id_of(4), START)  # in the row of the first


def test_too_many_syncs_are_429_with_nothing_applied() -> None:
    direct = Direct(device_burst=2)
    device = bodies.new_id()
    bodies_sent = [bodies.body(bodies.pattern(), device_id=device) for _ in range(4)]
    replies = [direct.post(SYNC, body) for body in bodies_sent]
    assert [reply.status for reply in replies] == [200, 200, 200, 429], "the first registers it"
    problem = replies[3].json()
    assert problem["code"] == "rate_limited" and replies[3].headers["retry-after"] == "1" == str(
        problem["retry_after_s"]
    )
    assert direct.service.stats().patterns_stored == 3
    assert b'constellation_problems_total{code="rate_limited",shard_id="shard-0"} 1.0' in direct.get("/metrics").content
    assert direct.post(SYNC, bodies.body()).status == 200
    direct.close()


@pytest.mark.parametrize(
    ("waited_s", "deadline", "path", "status"),
    [
        (0.0, None, SYNC, 200),
        (0.2, "100", SYNC, 503),
        (0.2, "5000", SYNC, 200),
        (limits.QUEUED_S_MAX + 1, None, SYNC, 503),
        (limits.QUEUED_S_MAX + 1, None, "/health", 200),
        (0.0, "99", SYNC, 422),
        (0.0, "soon", SYNC, 422),
        (0.0, "-1", SYNC, 422),
        (0.0, "99999999", SYNC, 422),
    ],
)
def test_what_nobody_waits_for_any_more_is_not_started(
    waited_s: float, deadline: str | None, path: str, status: int
) -> None:
    direct = Direct()
    headers = {} if deadline is None else {"x-request-deadline-ms": deadline}
    content = None if path != SYNC else bodies.body(bodies.pattern())
    reply = direct.waited(waited_s, "POST" if content else "GET", path, content, headers)
    assert reply.status == status
    assert direct.service.stats().patterns_stored == (status == 200 and path == SYNC)
    if status == 503:
        assert reply.json()["code"] == "overloaded" and int(reply.headers["retry-after"]) >= 1
    if status == 422:
        assert reply.json()["path"] == "header.X-Request-Deadline-Ms"
    direct.close()


def test_bodies_that_come_in_part_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_BYTES_HELD_MAX", 1_000)
    direct = Direct()
    content = b" " * 600
    messages: list[Any] = [{"type": "http.request", "body": content, "more_body": True}] * 2
    reply = direct.request_in_pieces("POST", SYNC, messages, {"content-type": "application/json"})
    assert (reply.status, reply.json()["code"]) == (503, "overloaded")
    assert direct.service.admission.body_bytes == 0 == direct.service.admission.awaiting_client
    direct.close()
