"""Which of the two media types a body has, and which one, and which encoding, the caller wants back.

Header values come in as they are on the wire (`None` where the header is absent). Called by `api` for every request.
"""

from enum import Enum

from constellation.errors import UnsupportedMediaType


class Media(Enum):
    """The types a body can have; the value is what `Content-Type` says."""

    JSON = "application/json"
    MSGPACK = "application/msgpack"


_BY_NAME = {
    "application/json": Media.JSON,
    "application/msgpack": Media.MSGPACK,
    "application/x-msgpack": Media.MSGPACK,
}
# What a range of `Accept` covers; of several that fit, the most specific one counts (RFC 9110, section 12.5.1).
_RANGES = {
    Media.JSON: ("application/json", "application/*", "*/*"),
    Media.MSGPACK: ("application/msgpack", "application/x-msgpack", "application/*", "*/*"),
}


def parse_content_type(value: str | None) -> Media:
    """The media of a body; parameters such as `charset` are ignored. Raises `UnsupportedMediaType`."""
    name = (value or "").partition(";")[0].strip().lower()
    media = _BY_NAME.get(name)
    if media is None:
        got = repr(value[:80]) if value else "none"
        raise UnsupportedMediaType(f"Content-Type: expected {' or '.join(_BY_NAME)}, got {got}")
    return media


def negotiate(accept: str | None, mirror: Media) -> Media:
    """The media of the reply: `mirror` (that of the request) unless `Accept` prefers the other one.

    An `Accept` that covers neither is not an error: the reply mirrors the request, as RFC 9110 allows.
    """
    if not accept:
        return mirror
    weights = _weights(accept)
    other = Media.MSGPACK if mirror is Media.JSON else Media.JSON
    return other if _weight_of(other, weights) > _weight_of(mirror, weights) else mirror


def accepts_zstd(accept_encoding: str | None) -> bool:
    """Whether `Accept-Encoding` names zstd with a weight above 0; `*` is not taken for it, as not every TV has it."""
    return _weights(accept_encoding or "").get("zstd", 0.0) > 0.0


def _weights(header: str) -> dict[str, float]:
    """Each name of a list such as `a/b;q=0.5, c/d`, in lower case, with its weight (1 unless `q` says otherwise)."""
    weights = {}
    for item in header.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        if name:
            weights[name] = _q(parameters)
    return weights


def _q(parameters: list[str]) -> float:
    """The value of `q`, within 0..1; a broken one makes its range count for nothing, rather than fail the request."""
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                weight = float(value)
            except ValueError:
                return 0.0
            return weight if 0.0 <= weight <= 1.0 else 0.0
    return 1.0


def _weight_of(media: Media, weights: dict[str, float]) -> float:
    return next((weights[name] for name in _RANGES[media] if name in weights), 0.0)
