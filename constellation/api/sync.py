"""`POST /api/v1/sync`: one delta in, one answer out. `GET /api/v1/sync/version`: the cursor alone."""

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.types import HTTPScope, Receive

from constellation import limits
from constellation.api import parameters
from constellation.api.access import caller_of
from constellation.api.accounting import Account
from constellation.api.body import read_body
from constellation.api.exchange import exchange
from constellation.api.form import Form, read_form
from constellation.api.operations import ADMISSION, READING_PROBLEMS, described
from constellation.api.replies import AnyRequest, Reply, reply
from constellation.api.schemas import SyncBody, SyncReply
from constellation.api.service import Service
from constellation.errors import (
    InvalidParameter,
    InvalidPattern,
    Moving,
    RateLimited,
    SequenceConflict,
    ShardFull,
    TooManyPatterns,
    WrongShard,
)
from constellation.model import Answer, Applied
from constellation.wire.body import compress
from constellation.wire.dictionary import NO_DICTIONARY
from constellation.wire.sync import decode_sync, encode_sync, noise_bytes


class Version(msgspec.Struct):
    """The shard's global version."""

    version: int


@post(
    "/api/v1/sync",
    status_code=200,
    opt=described(
        tag="sync",
        summary="Tell what a device learned, get what others learned",
        body=SyncBody,
        reply=SyncReply,
        reply_text="What became of the delta, and what the others know.",
        parameters=(
            parameters.SIMILAR,
            parameters.TRENDING,
            parameters.EMBEDDING,
            parameters.CODEBOOK,
            parameters.DEVICE_HEADER,
            parameters.DEADLINE,
            *parameters.CODINGS,
        ),
        headers=("Vary", "Content-Encoding"),
        problems=(
            *READING_PROBLEMS,
            WrongShard,
            Moving,
            SequenceConflict,
            InvalidPattern,
            TooManyPatterns,
            InvalidParameter,
            RateLimited,
            ShardFull,
            *ADMISSION,
        ),
    ),
)
async def sync(request: AnyRequest, service: NamedDependency[Service]) -> Reply:
    return await answered(service, request.scope, request.receive)


async def answered(service: Service, scope: HTTPScope, receive: Receive) -> Reply:
    """The reply to a sync, whether it came through the framework or past it (`api.shortcut`)."""
    service.admit()
    headers = dict(scope["headers"])
    form = read_form(headers)
    options = parameters.sync_options(scope["query_string"], form.reply_media)
    body = await read_body(receive, headers, form, service.settings)
    account: Account = scope["state"]["account"]
    account.trace.did("read")
    asked = decode_sync(body.content, form.media)
    caller_of(scope).require_device(asked.device_id)
    _check_device(headers.get(b"x-device-id"), asked.device_id)

    def encode(answer: Answer, applied: Applied) -> Reply:
        payload = encode_sync(answer, applied, service.admission.next_sync, form.reply_media, options.embedding)
        return _respond(payload, form, body.dictionary, noise_bytes(answer, form.reply_media))

    return await exchange(service, account, asked, options, encode)


@get(
    "/api/v1/sync/version",
    opt=described(
        tag="sync",
        summary="The shard's global version",
        reply=Version,
        reply_text="A cursor that only grows, also over restarts.",
    ),
)
async def sync_version(request: AnyRequest, service: NamedDependency[Service]) -> Reply:
    return reply(request, Version(service.shard.global_version))


def _check_device(header: bytes | None, device_id: bytes) -> None:
    name = "header.X-Device-Id"
    if header is not None and parameters.read_uuid(header.decode("latin-1"), name) != device_id:
        raise InvalidParameter(f"{name}: got {header.decode('latin-1')}, expected the body's device_id", path=name)


_VARY = "Accept, Accept-Encoding, Content-Type"


def _respond(payload: bytes, form: Form, dictionary: int, noise: int) -> Reply:
    """Who compressed a request with a dictionary can read a reply made with it; nothing else has to be negotiated."""
    media_type = form.reply_media.value
    if not form.reply_zstd:
        return Reply(payload, media_type, {"Vary": _VARY})
    if len(payload) > limits.DICTIONARY_REPLY_BYTES_MAX:
        dictionary = NO_DICTIONARY
    return Reply(compress(payload, dictionary, noise), media_type, {"Vary": _VARY, "Content-Encoding": "zstd"})
