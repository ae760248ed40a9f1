"""The titles that trends may name: `POST /api/v1/content`, `GET /api/v1/content/{content_id}`."""

from urllib.parse import unquote

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from constellation.api import parameters
from constellation.api.body import read_body
from constellation.api.form import read_form
from constellation.api.operations import ADMISSION, READING_PROBLEMS, described
from constellation.api.replies import AnyRequest, Reply, reply, scope_media
from constellation.api.schemas import ContentBody
from constellation.api.service import Service
from constellation.errors import InvalidContent, NotFound, ShardFull
from constellation.wire.content import decode_content, encode_content

_PATH = "/api/v1/content"


class Stored(msgspec.Struct):
    """The item that was stored."""

    content_id: str


@post(
    _PATH,
    status_code=201,
    opt=described(
        tag="content",
        summary="Store a title, or replace it",
        body=ContentBody,
        status=201,
        reply=Stored,
        reply_text="Stored; one of the same id is replaced.",
        parameters=parameters.CODINGS[:1],
        problems=(*READING_PROBLEMS, InvalidContent, ShardFull, *ADMISSION),
    ),
)
async def post_content(request: AnyRequest, service: NamedDependency[Service]) -> Reply:
    service.admit()
    headers = dict(request.scope["headers"])
    form = read_form(headers)
    body = await read_body(request.receive, headers, form, service.settings)
    item = decode_content(body.content, form.media)
    service.admit_change()
    service.shard.put_content(item, service.clock())
    await service.keeper.kept(service.keep())
    return reply(request, Stored(item.content_id), status=201)


@get(
    _PATH + "/{content_id:path}",
    opt=described(
        tag="content",
        summary="A title as it was stored",
        reply=ContentBody,
        reply_text="The item; of its embedding, the direction.",
        parameters=(parameters.CONTENT_ID,),
        problems=(NotFound,),
    ),
)
async def get_content(request: AnyRequest, service: NamedDependency[Service], content_id: FromPath[str]) -> Reply:
    item = service.shard.content(_content_id(request))
    media = scope_media(request.scope)
    body = encode_content(item, media, parameters.DEFAULT_EMBEDDING[media])
    return Reply(body, media.value, {"Vary": "Accept"})


def _content_id(request: AnyRequest) -> str:
    # Out of the bytes that came: the framework's own value has lost doubled and trailing slashes of an id.
    raw_path: bytes = request.scope["raw_path"]
    return unquote(raw_path[len(_PATH) + 1 :].decode("latin-1"))
