"""A sync that goes past the framework and one that goes through it, by an address that only the framework reads so."""

from collections.abc import Iterator

import pytest

from tests.api import bodies
from tests.api.direct import Answered, Direct

PAST, THROUGH = "/api/v1/sync", "/api/v1/sync/"


@pytest.fixture
def direct() -> Iterator[Direct]:
    made = Direct()
    yield made
    made.close()


def without_ids(answered: Answered) -> tuple[int, dict[str, str], bytes]:
    """What does not differ between two requests."""
    request_id = answered.headers.pop("x-request-id")
    return answered.status, answered.headers, answered.content.replace(request_id.encode(), b"")


@pytest.mark.parametrize(
    ("body", "status"), [(bodies.body(), 200), (b"{", 400), (bodies.body(bodies.pattern(success_rate=2)), 422)]
)
def test_both_ways_lead_to_the_same_reply(direct: Direct, body: bodies.Json | bytes, status: int) -> None:
    first = direct.post(PAST, body)
    assert first.status == status
    again = [without_ids(direct.post(path, body)) for path in (PAST, THROUGH)]
    assert again[0] == again[1]


def test_what_nobody_expected_is_told_alike(direct: Direct, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(direct.service.shard, "apply", fail)
    told = [without_ids(direct.post(path, bodies.body())) for path in (PAST, THROUGH)]
    assert told[0] == told[1] and told[0][0] == 500
    counted = direct.service.metrics.text().decode()
    assert 'constellation_problems_total{code="internal",shard_id="shard-0"} 2.0' in counted


def test_other_methods_are_the_frameworks(direct: Direct) -> None:
    refused = direct.get(PAST)
    assert refused.status == 405 and "POST" in refused.headers["allow"]
