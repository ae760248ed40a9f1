"""The certificate that a shard shows, and the one that it asks for; both read again when their files are written.

`context` is for servers on sockets: each handshake takes the certificates as they are then, and connections that are
open stay. `material` is the same as bytes, for a door that makes its own context.
"""

import logging
import ssl
from pathlib import Path

import msgspec

from constellation.config import NONE, Settings, WrongSetting
from constellation.identity.watched import Watched, WrongFile

_log = logging.getLogger(__name__)


class Material(msgspec.Struct, frozen=True):
    """PEM, as it stands in the files; `client_ca` None: clients need no certificate."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None
    context: ssl.SSLContext


class Tls:
    """`files` are certificate (with its chain), key, and with mutual TLS the authorities of clients."""

    def __init__(self, files: tuple[Path, ...]) -> None:
        """Raises `WrongFile`."""
        self._files = Watched(files, _read)
        self.context = self._switching(ssl.CERT_REQUIRED if len(files) > 2 else ssl.CERT_NONE)
        self.context_without_clients = self._switching(ssl.CERT_NONE)
        """The same certificate for the metrics port: who probes and scrapes has a token, and no certificate."""

    @property
    def material(self) -> Material:
        return self._files.value

    @property
    def failing(self) -> str:
        """Why the files as they are now are not used, if they are not."""
        return self._files.failing

    def look(self) -> None:
        """Read the files again if they were written. It blocks, as files do."""
        failed_before = self.failing
        if self._files.look():
            _log.info("read again", extra={"what": "certificates"})
        elif self.failing != failed_before:
            _log.error("not read again", extra={"what": "certificates", "why": self.failing})

    def _switching(self, verify_mode: ssl.VerifyMode) -> ssl.SSLContext:
        """A context that has no certificate of its own: at each handshake that of the present files takes its place."""
        context = _server_context()
        context.verify_mode = verify_mode

        def switch(handshake: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
            handshake.context = self.material.context

        context.sni_callback = switch
        return context


def open_tls(settings: Settings) -> Tls | None:
    """With the files that the settings name; None without. Raises `WrongSetting`."""
    if settings.tls_cert == NONE:
        return None
    named = (settings.tls_cert, settings.tls_key, settings.tls_client_ca)
    try:
        return Tls(tuple(Path(file) for file in named if file != NONE))
    except WrongFile as error:
        raise WrongSetting(f"--tls-cert: {error}") from error


def _read(certificate: Path, key: Path, client_ca: Path | None = None) -> Material:
    context = _server_context()
    files = (certificate, key, *((client_ca,) if client_ca else ()))
    before = [file.read_bytes() for file in files]
    try:
        context.load_cert_chain(certificate, key, _no_password)
        if client_ca is not None:
            context.load_verify_locations(client_ca)
    except ssl.SSLError as error:
        listed = ", ".join(map(str, files))
        raise WrongFile(f"{listed}: no certificates with their key in PEM ({error.reason or error})") from error
    if [file.read_bytes() for file in files] != before:
        raise WrongFile(f"{certificate} or {key} is being written")
    return Material(before[0], before[1], before[2] if client_ca else None, context)


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # No session is taken up again: it would go on with a certificate that was replaced, or is not accepted any more.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    return context


def _no_password() -> str:
    raise WrongFile("the key of --tls-key is encrypted; give one without a password, readable by this user alone")
