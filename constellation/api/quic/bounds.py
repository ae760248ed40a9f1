"""What the library leaves open: how much of a client's may wait to be used, and how large a request's head is.

The library doubles what a client may send whenever half of it was used, counting what never came. Here a window slides:
it grows by what was used, so that what waits has a bound. Of HTTP/3 nothing is spoken that a TV does not need: no
dynamic table of the client's, whose entries one byte each would repeat, and no CONNECT.
"""

from collections.abc import Iterable

import pylsqpack
from aioquic.h3.connection import (
    ErrorCode,
    FrameType,
    H3Connection,
    HeadersState,
    ProtocolError,
    Setting,
    encode_frame,
    stream_is_request_response,
)
from aioquic.h3.events import Headers
from aioquic.quic.connection import Limit, QuicConnection
from aioquic.quic.packet import QuicFrameType
from aioquic.quic.stream import QuicStream

from constellation import limits

LAST_REQUEST = b"\xff" * 7 + b"\xfc"
"""The greatest number that a request's stream could have."""


class Window(Limit):
    """Bytes that a client may have sent over all streams of a connection; told to it when the library next sends."""

    def __init__(self) -> None:
        self._value = limits.QUIC_WINDOW_BYTES
        super().__init__(QuicFrameType.MAX_DATA, "max_data", self._value)

    @property
    def value(self) -> int:
        return self._value

    @value.setter
    def value(self, doubled: int) -> None:
        """The library's own growth: not taken."""

    def slide(self, held: int) -> None:
        """`held`: bytes that are here and not used. In steps of half a window, because each is a message."""
        value = self.used + limits.QUIC_WINDOW_BYTES - held
        if value - self._value >= limits.QUIC_WINDOW_BYTES // 2:
            self._value = value


def bound(quic: QuicConnection) -> Window:
    """Of a new connection, before its first datagram is read."""
    window = Window()
    quic._local_max_data = window
    for limit, most in (
        (quic._local_max_streams_bidi, limits.QUIC_STREAMS_MAX),
        (quic._local_max_streams_uni, limits.QUIC_CONTROL_STREAMS_MAX),
    ):
        limit.value = limit.sent = most
    return window


def received(quic: QuicConnection) -> Iterable[QuicStream]:
    """Streams of which something may still come."""
    return [stream for stream in quic._streams.values() if not stream.receiver.is_finished]


def out_of_order(streams: Iterable[QuicStream]) -> tuple[int, int]:
    """Bytes up to the last one that came, behind one that did not, and the most gaps among those of one stream."""
    held = gaps = 0
    for stream in streams:
        receiver = stream.receiver
        held += receiver.highest_offset - receiver.starting_offset()
        gaps = max(gaps, len(receiver._ranges))
    return held, gaps


def unsent(quic: QuicConnection) -> int:
    """Bytes of replies that the client has not confirmed."""
    return sum(len(stream.sender._buffer) for stream in quic._streams.values())


class ExcessiveLoad(ProtocolError):
    error_code = ErrorCode.H3_EXCESSIVE_LOAD


class Http3(H3Connection):
    """The library's, with a bound for heads."""

    def __init__(self, quic: QuicConnection) -> None:
        super().__init__(quic)
        self._decoder = pylsqpack.Decoder(0, 0)

    @property
    def undecoded(self) -> int:
        """Bytes of frames that have not come whole."""
        return sum(len(stream.buffer) for stream in self._stream.values())

    @property
    def headless(self) -> list[int]:
        """Streams of requests whose head has begun to come."""
        begun = [each for each in self._stream.values() if each.headers_recv_state is HeadersState.INITIAL]
        return [stream.stream_id for stream in begun if stream_is_request_response(stream.stream_id)]

    def go_away(self) -> None:
        """Ask for no more requests; those that come all the same are answered (RFC 9114, section 5.2)."""
        assert self._local_control_stream_id is not None
        self._quic.send_stream_data(self._local_control_stream_id, encode_frame(FrameType.GOAWAY, LAST_REQUEST))

    def _get_local_settings(self) -> dict[int, int]:
        return {
            Setting.QPACK_MAX_TABLE_CAPACITY: 0,
            Setting.QPACK_BLOCKED_STREAMS: 0,
            Setting.MAX_FIELD_SECTION_SIZE: limits.QUIC_HEAD_BYTES_MAX,
        }

    def _decode_headers(self, stream_id: int, frame_data: bytes | None) -> Headers:
        # Each is checked byte by byte, after this.
        if frame_data is not None and len(frame_data) > limits.QUIC_HEAD_BYTES_MAX:
            raise ExcessiveLoad(f"a head of more than {limits.QUIC_HEAD_BYTES_MAX} bytes")
        headers = super()._decode_headers(stream_id, frame_data)
        if (
            len(headers) > limits.QUIC_HEADERS_MAX
            or sum(len(name) + len(value) for name, value in headers) > limits.QUIC_HEAD_BYTES_MAX
        ):
            raise ExcessiveLoad(f"more than {limits.QUIC_HEADERS_MAX} headers or {limits.QUIC_HEAD_BYTES_MAX} bytes")
        return headers
