"""What the OpenAPI document says of one handler, written where the handler is.

A handler names its `Operation` in its `opt`; paths and methods are the framework's own, schemas come from the structs
that are really encoded. `openapi` refuses to build a document when a handler has none.
"""

from typing import Any

import msgspec

from constellation.errors import (
    Draining,
    Malformed,
    NotReady,
    Overloaded,
    Problem,
    StorageFailed,
    TooLarge,
    UnknownDictionary,
    UnsupportedMediaType,
)


class Parameter(msgspec.Struct, frozen=True):
    """A query parameter, path parameter or header; `schema` is JSON Schema."""

    name: str
    description: str
    schema: dict[str, Any]
    where: str = "query"
    required: bool = False


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path. `body` and `reply` are structs, in JSON or msgpack; a `reply` that is a string is the
    media type of a text, and None is no content. `immutable`: as `replies.immutable` answers, instead of `headers`."""

    summary: str
    tag: str
    reply: Any
    reply_text: str
    status: int = 200
    body: Any = None
    parameters: tuple[Parameter, ...] = ()
    headers: tuple[str, ...] = ("Vary",)
    immutable: bool = False
    problems: tuple[type[Problem], ...] = ()


ADMISSION: tuple[type[Problem], ...] = (Overloaded, Draining, NotReady, StorageFailed)
"""What `Service.admit` may refuse with."""
READING_PROBLEMS: tuple[type[Problem], ...] = (Malformed, TooLarge, UnsupportedMediaType, UnknownDictionary)
"""What reading and decompressing a body may refuse with."""


def described(**fields: Any) -> dict[str, Operation]:
    """The `opt` of a handler."""
    return {"operation": Operation(**fields)}
