"""Patterns of shards to train a codebook on: `GET /api/v1/sample` of each, until there are enough. Called by `cli`."""

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import aiohttp
import msgspec
import numpy as np

from constellation.client.failures import BadReply
from constellation.client.transport import Token, Transport, open_session
from constellation.limits import SAMPLE_MAX
from constellation.model import DIM, Codes
from kernels.codes import CODE_MAX, check_codes


class Sampled(NamedTuple):
    """Codes (n, 384) of different patterns, and the highest version of a codebook that one of the shards serves."""

    codes: Codes
    codebook_version: int


async def sample_shards(
    urls: Sequence[str], wanted: int, advance: Callable[[int], None], token: Token = None
) -> Sampled:
    """About `wanted` patterns, as many of each shard, fewer where they serve fewer; `advance` is told how many came.

    Raises `SyncFailed`.
    """
    pieces, versions, came = [np.empty((0, DIM), np.int8)], [], 0
    async with open_session() as session:
        for url in urls:
            info = await _get(f"{url}/api/v1/info", session, token)
            versions.append(_codebook_version(url, info))
            left = -(-wanted // len(urls))
            while left > 0:
                limit = min(left, SAMPLE_MAX)
                pieces.append(_codes(url, await _get(f"{url}/api/v1/sample?limit={limit}", session, token)))
                left -= limit
                came += len(pieces[-1])
                advance(came)
    return Sampled(_different(np.concatenate(pieces)), max(versions))


class _Info(msgspec.Struct):
    """What is read of `GET /api/v1/info`."""

    codebook_version: int


async def _get(url: str, session: aiohttp.ClientSession, token: Token) -> bytes:
    return (await Transport(url, session, random.Random(), token=token).get()).body


def _codebook_version(url: str, body: bytes) -> int:
    try:
        return msgspec.json.decode(body, type=_Info).codebook_version
    except msgspec.MsgspecError as error:
        raise BadReply(f"{url} is no shard of this release: {error}") from error


def _codes(url: str, body: bytes) -> Codes:
    if len(body) % DIM:
        raise BadReply(f"{url} answers with a sample of {len(body)} bytes, which is no multiple of {DIM}")
    codes = np.frombuffer(bytearray(body), np.int8).reshape(-1, DIM)
    if check_codes(codes) >= 0 or codes.min(initial=0) < -CODE_MAX:
        raise BadReply(f"{url} answers with a sample in which there is what is no pattern")
    return codes


def _different(codes: Codes) -> Codes:
    """Each code once, in the order of the first of them: two samples of one shard may have the same patterns."""
    return np.frombuffer(bytearray().join(dict.fromkeys(map(bytes, codes))), np.int8).reshape(-1, DIM)
