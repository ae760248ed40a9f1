"""Device ids in logs and traces: only a keyed hash of them, so that lines of one household can be found together.

Whatever looks like the id of a device is replaced, wherever in a line it stands: an error's text may hold one, too.
The hash is the beginning of HMAC-SHA256 over the id's canonical text, under a key of this process or that of
`--log-key-file`: who has the key can look for a household, and nobody else can try ids out.
"""

import ast
import hmac
import re
import secrets
from pathlib import Path
from uuid import UUID

from constellation.config import RANDOM, WrongSetting

KEY_BYTES_MIN = 16
_KEY_BYTES_MAX = 4_096
_HASH_BYTES = 8

_UUID = r"[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}"
_TEXT = re.compile(rf"(?<![0-9a-zA-Z]){_UUID}(?![0-9a-zA-Z])")
_BYTES = re.compile(r"""b'(?:[^'\\\n]|\\.)*'|b"(?:[^"\\\n]|\\.)*\"""")


class Hiding:
    """By one key."""

    def __init__(self, key: bytes = b"") -> None:
        self._key = key or secrets.token_bytes(32)

    def device(self, device_id: bytes) -> str:
        """Of 16 bytes; 16 hex digits."""
        text = str(UUID(bytes=device_id)).encode()
        return hmac.digest(self._key, text, "sha256")[:_HASH_BYTES].hex()

    def text(self, text: str) -> str:
        """The text with a hash in place of every UUID, also of one as Python shows its bytes."""
        hidden = _TEXT.sub(lambda found: f"hashed:{self.device(UUID(found[0]).bytes)}", text)
        return _BYTES.sub(self._literal, hidden) if "b'" in hidden or 'b"' in hidden else hidden

    def request_id(self, request_id: str, device_id: bytes) -> str:
        """As it came, unless a device used its own id for it."""
        return (
            self.text(request_id)
            if device_id and device_id.hex() in request_id.replace("-", "").lower()
            else request_id
        )

    def _literal(self, found: re.Match[str]) -> str:
        try:
            value = ast.literal_eval(found[0])
        except (ValueError, SyntaxError):
            return found[0]
        return f"hashed:{self.device(value)}" if len(value) == 16 else found[0]


def hiding(key_file: str) -> Hiding:
    """By the key in the file. Raises `WrongSetting`."""
    if key_file == RANDOM:
        return Hiding()
    try:
        with Path(key_file).open("rb") as file:
            key = file.read(_KEY_BYTES_MAX).strip()
    except OSError as error:
        raise WrongSetting(f"--log-key-file: cannot read {key_file}: {error.strerror}") from error
    if len(key) < KEY_BYTES_MIN:
        raise WrongSetting(f"--log-key-file: {key_file} holds {len(key)} bytes; allowed: at least {KEY_BYTES_MIN}")
    return Hiding(key)
