"""Over a socket: a device that sends the version of its last reply back is told what changed since, and that alone."""

from typing import Any
from uuid import UUID

import httpx
import msgspec
import numpy as np
import pytest

from constellation.digest import answer_digest
from tests.api import bodies
from tests.api.process import serving

# A device without patterns gets the best known of all devices; these are the only ones with such a rate.
BEST = {"success_rate": 1.0, "sample_count": 1_000_000}


@pytest.fixture(params=["json", "msgpack"])
def syncs(request: pytest.FixtureRequest, client: httpx.Client) -> Any:
    """`global` of the reply to a body, in either media."""

    def sync(body: bodies.Json, query: str = "") -> Any:
        json = request.param == "json"
        reply = client.post(
            f"/api/v1/sync{query}",
            content=msgspec.json.encode(body) if json else msgspec.msgpack.encode(body),
            headers={"Content-Type": f"application/{request.param}"},
        )
        assert reply.status_code == 200, reply.text
        return (msgspec.json if json else msgspec.msgpack).decode(reply.content)["global"]

    return sync


def test_a_warm_reply_holds_what_changed_and_nothing_else(syncs: Any) -> None:
    teller, asking = bodies.new_id(), bodies.new_id()
    updated, removed, new = bodies.pattern(**BEST), bodies.pattern(**BEST), bodies.pattern(**BEST)
    syncs(bodies.body(updated, removed, device_id=teller))
    cold = syncs(bodies.body(device_id=asking))
    assert cold["reset"] and {updated["id"], removed["id"]} <= set(_ids(cold))
    nothing = syncs(bodies.body(device_id=asking, local_version=cold["global_version"]))
    assert (nothing["reset"], nothing["similar"], nothing["removed"], nothing["trending"]) == (False, [], [], None)
    assert nothing["digest"] == cold["digest"]

    change = {"id": updated["id"], "new_success_rate": 1.0, "additional_samples": 5}
    gone = [removed["id"]]
    syncs(bodies.body(new, device_id=teller, patterns_updated=[change], patterns_removed=gone))
    for _ in range(2):  # the reply is lost, the device asks again with the version that it has
        warm = syncs(bodies.body(device_id=asking, local_version=nothing["global_version"]))
        assert not warm["reset"] and [_text(gone) for gone in warm["removed"]] == gone
        told = {_text(pattern["id"]): pattern for pattern in warm["similar"]}
        assert told.keys() == {updated["id"], new["id"]}
        assert "embedding" not in told[updated["id"]] and "embedding" in told[new["id"]]
        assert told[updated["id"]]["updated_at"] > updated["updated_at"]
        have = {_text(pattern["id"]): pattern for pattern in cold["similar"]}
        del have[removed["id"]]
        assert _digest(have | told) == warm["digest"]


def test_other_parameters_and_versions_that_were_never_sent_get_the_whole_list(syncs: Any) -> None:
    device = bodies.new_id()
    cold = syncs(bodies.body(bodies.pattern(), device_id=device))
    other = syncs(bodies.body(device_id=device, local_version=cold["global_version"]), "?similar=7")
    assert other["reset"] and other["global_version"] > cold["global_version"]
    warm = syncs(bodies.body(device_id=device, local_version=other["global_version"]), "?similar=7")
    assert not warm["reset"]
    for version in (0, 1, cold["global_version"], warm["global_version"] + 1_000_000_000):
        assert syncs(bodies.body(device_id=device, local_version=version), "?similar=7")["reset"]


def test_a_shard_that_was_killed_starts_with_whole_lists() -> None:
    device = bodies.new_id()
    versions: list[int] = []
    for _ in range(2):
        with serving() as server, httpx.Client(base_url=server.url, timeout=30) as client:
            for _ in range(2):
                last = versions[-1] if versions else None
                reply = client.post("/api/v1/sync", json=bodies.body(device_id=device, local_version=last))
                told = reply.json()["global"]
                assert told["reset"] == (len(versions) % 2 == 0)
                versions.append(told["global_version"])
            server.child.kill()
    assert versions == sorted(versions) and versions[1] < versions[2]


def _text(pattern_id: str | bytes) -> str:
    return str(UUID(bytes=pattern_id)) if isinstance(pattern_id, bytes) else pattern_id


def _ids(told: Any) -> list[str]:
    return [_text(pattern["id"]) for pattern in told["similar"]]


def _digest(patterns: dict[str, Any]) -> str:
    return answer_digest(
        np.array([list(UUID(key).bytes) for key in patterns], np.uint8),
        np.array([pattern["success_rate"] for pattern in patterns.values()], np.float32),
        np.array([pattern["sample_count"] for pattern in patterns.values()], np.uint32),
        np.array([pattern["updated_at"] for pattern in patterns.values()], np.int64),
    )
