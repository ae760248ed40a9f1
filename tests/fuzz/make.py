"""Makes corpus/: `python -m tests.fuzz.make`. Bodies as TVs send them, all of one device, each good as it is.

NAME.FORM.bin, FORM being json, msgpack, push or pull (the messages of gRPC). A body that ever broke something is put
beside them by hand, as NAME.FORM.found.bin, and stays.
"""

import base64
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from constellation.api.grpc import sync_pb2 as pb
from tests.api import bodies
from tests.api.grpc.tv import reply_options, request
from tests.identity.fleet import DEVICE_ID

CORPUS = Path(__file__).parent / "corpus"
TYPES = ("list", "f4", "f2", "i1")
"""Of embeddings: a list of floats, or bytes."""
Named = Iterator[tuple[str, bytes]]


def main() -> None:
    CORPUS.mkdir(exist_ok=True)
    for file in set(CORPUS.iterdir()) - set(CORPUS.glob("*.found.bin")):
        file.unlink()
    for name, content in (*_json(), *_msgpack(), *_protobuf()):
        (CORPUS / f"{name}.bin").write_bytes(content)


def _bodies() -> dict[str, bodies.Json]:
    """By their names; embeddings are lists of floats."""
    ids = [f"0b54bd4e-6f0c-4e6b-9d5f-2f0a8a4d1c{number:02x}" for number in range(4)]
    new = [bodies.pattern(id=one, embedding=bodies.embedding(number)) for number, one in enumerate(ids)]
    updates = [{"id": one, "new_success_rate": 0.8, "additional_samples": 5} for one in ids]
    return {
        "nothing": bodies.body(device_id=DEVICE_ID),
        "one": bodies.body(new[0], device_id=DEVICE_ID, local_version=0, sequence=1),
        "updates": bodies.body(device_id=DEVICE_ID, patterns_updated=updates, local_version=1),
        "removals": bodies.body(device_id=DEVICE_ID, patterns_removed=ids[2:]),
        "all": bodies.body(*new, device_id=DEVICE_ID, patterns_updated=updates[:1], patterns_removed=ids[3:]),
    }


def _json() -> Named:
    for name, body in _bodies().items():
        yield f"{name}.json", msgspec.json.encode(body)
    for form in TYPES[2:]:
        yield (
            f"one-{form}.json",
            msgspec.json.encode(_written(lambda raw: base64.b64encode(raw).decode(), form)),
        )


def _msgpack() -> Named:
    for name, body in _bodies().items():
        yield f"{name}.msgpack", msgspec.msgpack.encode(body)
    for form in TYPES[1:]:
        yield f"one-{form}.msgpack", msgspec.msgpack.encode(_written(bytes, form))


def _protobuf() -> Named:
    for name, body in _bodies().items():
        yield f"{name}.push", request(body, embedding="compact", similar=10, codebook=1).SerializeToString()
    device_id = request(_bodies()["nothing"]).device_id
    pull = pb.PullRequest(device_id=device_id, options=reply_options(similar=5), content_ids=["tt0078748"])
    yield "titles.pull", pull.SerializeToString()
    yield "nothing.pull", pb.PullRequest(device_id=device_id).SerializeToString()


def _written(write: object, form: str) -> bodies.Json:
    """One pattern whose embedding is bytes of this type."""
    body = _bodies()["one"]
    body["delta"]["sequence"] = 1 + TYPES.index(form)  # another content under the same one would be a conflict
    (pattern,) = body["delta"]["patterns_added"]
    vector = np.array(pattern["embedding"])
    raw = (np.rint(vector * 127 / np.abs(vector).max()) if form == "i1" else vector).astype(f"<{form}").tobytes()
    assert callable(write)
    pattern["embedding"] = write(raw)
    return body


if __name__ == "__main__":
    main()
