"""The list of what is not accepted any more though it is signed: tokens by `jti`, and devices and others by `sub`.

A text with one of them a line (`#` begins a comment), or JSON: a list, or `{"jti": [...], "sub": [...]}`.
"""

from pathlib import Path

import msgspec

from constellation.identity.watched import WrongFile

BYTES_MAX = 64 << 20


class _Listed(msgspec.Struct, forbid_unknown_fields=True):
    jti: list[str] = []
    sub: list[str] = []


def read_revocations(path: Path) -> frozenset[str]:
    """Lower case, as UUIDs are compared. Raises `WrongFile`, `OSError`."""
    with path.open("rb") as file:
        content = file.read(BYTES_MAX + 1)
    if len(content) > BYTES_MAX:
        raise WrongFile(f"{path} has more than {BYTES_MAX} bytes; tokens that have expired need no line")
    try:
        listed = _of_json(content) if content.lstrip()[:1] in (b"[", b"{") else _of_text(content.decode())
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise WrongFile(
            f"{path} is neither a text with a jti or sub a line, nor such a list in JSON: {error}"
        ) from error
    return frozenset(name.lower() for name in listed if name)


def _of_json(content: bytes) -> list[str]:
    listed = msgspec.json.decode(content, type=list[str] | _Listed)
    return [*listed.jti, *listed.sub] if isinstance(listed, _Listed) else listed


def _of_text(content: str) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in content.splitlines())
    return [line for line in lines if line]
