"""Whose devices a shard serves, by the map that it was told, and what it remembers of it."""

import uuid

from constellation.api.slot_map import Place, SlotMap, alone
from constellation.federation.database import Held, MapEntry
from constellation.slots import slot_of
from tests.api import bodies
from tests.api.direct import Direct

SYNC = "/api/v1/sync"
IDS = [uuid.UUID(int=number, version=4) for number in range(4)]
MINE, ANOTHERS, LEAVING, NOBODYS = (slot_of(device_id.bytes) for device_id in IDS)


def entry(shard_id: str, region: str, *slots: int) -> MapEntry:
    return MapEntry(shard_id, region, f"http://{shard_id}", [(slot, slot) for slot in slots], 0, 0, True, 7, 0.0)


def test_a_device_is_served_by_the_owner_of_its_slot_alone() -> None:
    direct = Direct()
    settings, service = direct.service.settings, direct.service
    mine = entry(settings.shard_id, settings.region, MINE, LEAVING)
    others = [entry("other", settings.region, ANOTHERS), entry("abroad", "mars", NOBODYS, MINE)]
    service.map = SlotMap(Place(7, [mine, *others], [LEAVING]), settings.region)
    replies = [direct.post(SYNC, bodies.body(bodies.pattern(), device_id=str(device_id))) for device_id in IDS]
    assert [reply.status for reply in replies] == [200, 307, 503, 503]
    assert replies[1].headers["location"] == f"http://other{SYNC}"
    assert [reply.json()["code"] for reply in replies[2:]] == ["moving", "not_ready"]
    assert service.stats().total_devices == 1
    direct.close()


def test_what_a_shard_held_is_what_it_was_told_of_itself() -> None:
    told = SlotMap(Place(7, [entry("a", "eu", 3, 5), entry("b", "eu"), entry("c", "us", 3)], [5]), "eu")
    assert (told.held("a"), told.held("b")) == (Held(7, [3, 5]), Held(7, []))
    assert told.held("c") is None and told.held("new") is None
    assert alone("a", "eu").held("a") is None
