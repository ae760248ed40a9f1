"""The one way to make a reply out of a struct, in the media type that the client asks for."""

from typing import Any

import msgspec
from litestar import Request
from litestar.response.base import ASGIResponse
from litestar.types import HTTPScope

from constellation.api.form import reply_media
from constellation.wire.media import Media

AnyRequest = Request[Any, Any, Any]


def reply(request: AnyRequest, body: object, status: int = 200) -> ASGIResponse:
    """A struct as JSON or msgpack, as `Accept` asks."""
    media = scope_media(request.scope)
    return ASGIResponse(
        body=encode(body, media), status_code=status, media_type=media.value, headers={"Vary": "Accept"}
    )


def scope_media(scope: HTTPScope) -> Media:
    return reply_media(dict(scope["headers"]))


def encode(body: object, media: Media) -> bytes:
    return msgspec.msgpack.encode(body) if media is Media.MSGPACK else msgspec.json.encode(body)
