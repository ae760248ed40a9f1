"""What never changes under its address is kept by whoever has it: validators over a socket."""

import socket

import httpx
import pytest

from constellation.wire.dictionary import newest
from tests.api.process import Server

KEPT = ("/api/v1/codebook/1", f"/api/v1/dictionary/{newest()}")


@pytest.mark.parametrize("path", KEPT)
def test_reply_may_be_kept_for_ever(client: httpx.Client, path: str) -> None:
    reply = client.get(path)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/octet-stream")
    assert reply.headers["cache-control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize("path", KEPT)
@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', '"other",W/{}, "more"', "*"])
def test_who_has_it_is_not_sent_it_again(client: httpx.Client, path: str, form: str) -> None:
    tag = client.get(path).headers["etag"]
    reply = client.get(path, headers={"If-None-Match": form.format(tag)})
    assert (reply.status_code, reply.content) == (304, b"")
    assert (reply.headers["etag"], reply.headers["cache-control"]) == (tag, "public, max-age=31536000, immutable")
    assert not {"content-type", "content-length", "transfer-encoding"} & set(reply.headers)


@pytest.mark.parametrize("path", KEPT)
@pytest.mark.parametrize("given", ['"other"', "", "etag", '"0000000000000000", W/"1"'])
def test_who_has_another_is_sent_it(client: httpx.Client, path: str, given: str) -> None:
    reply = client.get(path, headers={"If-None-Match": given})
    assert reply.status_code == 200 and reply.content


def test_connection_goes_on_after_a_304(server: Server, client: httpx.Client) -> None:
    tag = client.get(KEPT[1]).headers["etag"]
    asked = f"GET {KEPT[1]} HTTP/1.1\r\nHost: x\r\nIf-None-Match: {tag}\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(server.address, timeout=10) as connection:
        connection.sendall(asked.encode())
        answered = b""
        while b'{"status":"ok"}' not in answered:
            received = connection.recv(65_536)
            assert received
            answered += received
    assert answered.startswith(b"HTTP/1.1 304 ") and answered.count(b"HTTP/1.1 ") == 2
