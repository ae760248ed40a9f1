"""A problem as the body of an error reply: problem+json (RFC 9457), or the same fields in msgpack. Called by `api`."""

from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import msgspec

from constellation.errors import Problem, Unavailable
from constellation.wire.media import Media

CONTENT_TYPES = {Media.JSON: "application/problem+json", Media.MSGPACK: Media.MSGPACK.value}
"""What the `Content-Type` of a problem says; msgpack has no problem type of its own."""
_TITLES = {status.value: status.phrase for status in HTTPStatus}


def problem_fields(problem: Problem, request_id: str) -> dict[str, Any]:
    """The fields of a problem, the same for every media.

    `type` is about:blank, so `title` is the status's own; programs go by `code`, people by `detail`. `instance` is
    the request id, escaped as a URI reference. `path` is there if one field is at fault, `retry_after_s` if trying
    again helps, `last_sequence` after a conflict.
    """
    fields: dict[str, Any] = {
        "type": "about:blank",
        "title": _TITLES[problem.status],
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
        "instance": quote(request_id, safe=""),
    }
    if problem.path is not None:
        fields["path"] = problem.path
    if isinstance(problem, Unavailable):
        fields["retry_after_s"] = problem.retry_after_s
    return fields | problem.extra


def encode_problem(problem: Problem, request_id: str, media: Media) -> bytes:
    """The body; its `Content-Type` is `CONTENT_TYPES[media]`."""
    fields = problem_fields(problem, request_id)
    return msgspec.json.encode(fields) if media is Media.JSON else msgspec.msgpack.encode(fields)
