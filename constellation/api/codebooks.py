"""The codebook, and the patterns that another one is trained on: `GET /api/v1/codebook/{version}` and `/sample`."""

import asyncio
import functools

import numpy as np
from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath

from constellation.api import parameters
from constellation.api.operations import ADMISSION, described
from constellation.api.replies import BYTES, AnyRequest, Reply, immutable
from constellation.api.service import Service
from constellation.codebook import Codebook, checksum, encode
from constellation.errors import Forbidden, InvalidParameter, NotFound


@get(
    "/api/v1/codebook/{version:str}",
    opt=described(
        tag="codebook",
        summary="A codebook",
        reply=BYTES,
        reply_text="Its file; never another for the same version.",
        immutable=True,
        parameters=(parameters.CODEBOOK_VERSION,),
        problems=(NotFound,),
    ),
)
async def codebook(request: AnyRequest, service: NamedDependency[Service], version: FromPath[str]) -> Reply:
    held = service.codebook
    if version != str(held.version):
        raise NotFound(f"there is no codebook {version[:64]!r} here, only {held.version}")
    return immutable(request, *_file(held))


@functools.lru_cache(maxsize=2)
def _file(held: Codebook) -> tuple[bytes, str]:
    """Encoded once, and not while syncs wait for it each time that somebody asks."""
    return encode(held), checksum(held)


@get(
    "/api/v1/sample",
    opt=described(
        tag="codebook",
        summary="Patterns drawn at random, to train a codebook on",
        reply=BYTES,
        reply_text="Of each pattern its embedding, 384 int8, and nothing else; fewer where fewer are served.",
        headers=("Cache-Control",),
        parameters=(parameters.SAMPLE_LIMIT,),
        problems=(Forbidden, InvalidParameter, *ADMISSION),
    ),
)
async def sample(request: AnyRequest, service: NamedDependency[Service]) -> Reply:
    service.admit()
    if service.settings.sharing == "aggregates":
        raise Forbidden("this shard gives nobody the patterns of a household (--sharing aggregates)")
    limit = parameters.sample_limit(request.scope["query_string"])
    pieces = []
    for codes in service.shard.sample(limit, np.random.default_rng()):
        pieces.append(codes.tobytes())
        await asyncio.sleep(0)
    return Reply(b"".join(pieces), BYTES, {"Cache-Control": "no-store"})
