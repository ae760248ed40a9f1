"""The codebook, and the patterns that another one is trained on: `GET /api/v1/codebook/{version}` and `/sample`."""

import asyncio

import numpy as np
from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath

from constellation.api import parameters
from constellation.api.operations import ADMISSION, described
from constellation.api.replies import AnyRequest, Reply
from constellation.api.service import Service
from constellation.codebook import checksum, encode
from constellation.errors import Forbidden, InvalidParameter, NotFound

_BYTES = "application/octet-stream"


@get(
    "/api/v1/codebook/{version:str}",
    opt=described(
        tag="codebook",
        summary="A codebook",
        reply=_BYTES,
        reply_text="Its file; never another for the same version.",
        headers=("Cache-Control", "ETag"),
        parameters=(parameters.CODEBOOK_VERSION,),
        problems=(NotFound,),
    ),
)
async def codebook(service: NamedDependency[Service], version: FromPath[str]) -> Reply:
    held = service.codebook
    if version != str(held.version):
        raise NotFound(f"there is no codebook {version[:64]!r} here, only {held.version}")
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "ETag": f'"{checksum(held)}"'}
    return Reply(encode(held), _BYTES, headers)


@get(
    "/api/v1/sample",
    opt=described(
        tag="codebook",
        summary="Patterns drawn at random, to train a codebook on",
        reply=_BYTES,
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
    return Reply(b"".join(pieces), _BYTES, {"Cache-Control": "no-store"})
