"""Reading a request's body, chunk by chunk, counted: no header decides how much memory a request takes."""

import asyncio
from collections.abc import Mapping

from litestar.types import Receive, ReceiveMessage

from constellation import limits
from constellation.api.form import Form
from constellation.config import Settings
from constellation.errors import Malformed, TooLarge
from constellation.wire.body import Body, unpack


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], form: Form, settings: Settings) -> Body:
    """The whole body, decompressed; both sizes bounded by the settings.

    Raises `TooLarge`, `Malformed` (also for a body that does not arrive), and what decompression raises.
    """
    size_max = settings.max_body_bytes if form.encoding == "identity" else settings.max_compressed_bytes
    _check_declared(headers.get(b"content-length"), size_max)
    message = await receive()
    if message["type"] == "http.request" and not message["more_body"]:
        # Nearly every sync: one segment, no list, no timer.
        body = message["body"]
        _count(body, size_max)
    else:
        body = await _read_rest(receive, message, size_max)
    return unpack(body, form.encoding, settings.max_body_bytes)


def _check_declared(length: bytes | None, size_max: int) -> None:
    # Content-Length can only refuse early, it never permits: what comes is counted all the same.
    if length is not None and length.isdigit() and (len(length) > limits.LENGTH_DIGITS_MAX or int(length) > size_max):
        raise TooLarge(f"body: {length.decode()} bytes declared, at most {size_max} are read")


async def _read_rest(receive: Receive, first: ReceiveMessage, size_max: int) -> bytes:
    body = bytearray()
    message = first
    try:
        async with asyncio.timeout(limits.BODY_READ_S_MAX):
            while True:
                if message["type"] != "http.request":
                    raise Malformed("body: the client closed the connection before its end")
                body += message["body"]
                _count(body, size_max)
                if not message["more_body"]:
                    return bytes(body)
                message = await receive()
    except TimeoutError as error:
        raise Malformed(f"body: did not arrive within {limits.BODY_READ_S_MAX} s") from error


def _count(body: bytes | bytearray, size_max: int) -> None:
    if len(body) > size_max:
        raise TooLarge(f"body: {len(body)} bytes so far, at most {size_max} are read")
