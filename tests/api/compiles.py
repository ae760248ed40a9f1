"""Run in a process of its own by `test_rehearsal`: prints the kernels that requests made numba compile or load."""

import importlib
import pkgutil
from urllib.parse import quote

import msgspec

import kernels
from constellation.api.rehearsal import rehearse
from kernels.warm import warm
from tests.api import bodies
from tests.api.direct import Direct


def signatures() -> set[tuple[str, str, object]]:
    """Every specialisation there is of every kernel: module, function, argument types."""
    modules = [importlib.import_module(f"kernels.{found.name}") for found in pkgutil.iter_modules(kernels.__path__)]
    return {
        (module.__name__, name, signature)
        for module in modules
        for name, value in vars(module).items()
        for signature in getattr(value, "signatures", ())
    }


def requests(direct: Direct) -> None:
    """Every kind of request, in every form."""
    for media in ("json", "msgpack"):
        encode = msgspec.json.encode if media == "json" else msgspec.msgpack.encode
        headers = {"content-type": f"application/{media}"}
        statuses = [direct.post("/api/v1/content", encode(bodies.content()), headers).status]
        for seed, form in enumerate(("f32", "f16", "i8")):
            first = bodies.pattern(embedding=bodies.embedding(seed))
            body = bodies.body(first, bodies.pattern())
            statuses.append(direct.post(f"/api/v1/sync?embedding={form}", encode(body), headers).status)
            body["delta"] = bodies.delta(
                patterns_updated=[{"id": first["id"], "new_success_rate": 0.8, "additional_samples": 5}],
                patterns_removed=[bodies.new_id()],
            )
            statuses.append(direct.post("/api/v1/sync", encode(body), headers).status)
        statuses.append(direct.request("DELETE", f"/api/v1/devices/{body['device_id']}").status)
        statuses += [direct.get(path).status for path in ("/api/v1/trending", "/api/v1/stats", "/health/detailed")]
        statuses.append(direct.get("/api/v1/content/" + quote(bodies.content()["content_id"])).status)
        assert set(statuses) <= {200, 201, 204}, statuses


def main() -> None:
    direct = Direct()
    warm()
    rehearse(direct.service.settings)
    before = signatures()
    requests(direct)
    direct.service.shard.maintain()
    for module, name, signature in sorted(signatures() - before, key=str):
        print(f"{module}.{name}{signature}")
    direct.close()


if __name__ == "__main__":
    main()
