"""`constellation token keys | issue`: the keys of a fleet, and tokens for its devices, its operators, its scrapers."""

import argparse
import os
import re
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from constellation.config import WrongSetting

if TYPE_CHECKING:
    from constellation.identity import Scope

_EXPIRES = re.compile(r"([1-9][0-9]{0,8})([smhd]?)")
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="keys | issue")
    keys = actions.add_parser("keys", help="make a key pair: one file to sign with, one for the shards")
    keys.add_argument(
        "--key", type=Path, default=Path("token-key.pem"), metavar="FILE", help="private (default %(default)s)"
    )
    keys.add_argument(
        "--public",
        type=Path,
        default=Path("token-keys.jwks"),
        metavar="FILE",
        help="public; one that exists gets another key. PEM if so named, else a JWKS (default %(default)s)",
    )
    keys.set_defaults(act=_keys)
    issue = actions.add_parser("issue", help="print a token", allow_abbrev=False)
    issue.add_argument("--key", type=Path, required=True, metavar="FILE", help="private key, as keys made it")
    subject = issue.add_mutually_exclusive_group(required=True)
    subject.add_argument("--device", type=uuid.UUID, metavar="UUID", help="for this TV")
    subject.add_argument("--subject", metavar="NAME", help="for somebody else")
    issue.add_argument(
        "--scope", help="device, content, admin, metrics, or several with spaces (default for a TV: device)"
    )
    issue.add_argument(
        "--expires", type=_seconds, default="30d", metavar="TIME", help="after 90s, 15m, 12h, 30d (default %(default)s)"
    )
    issue.add_argument(
        "--audience",
        default=os.environ.get("CONSTELLATION_AUDIENCE", "constellation"),
        metavar="TEXT",
        help="the fleet, as the shards' --audience (default %(default)s)",
    )
    issue.add_argument("--id", metavar="TEXT", help="jti, by which it can be revoked (default: a new UUID)")
    issue.set_defaults(act=_issue)


def run(arguments: argparse.Namespace) -> int:
    arguments.act(arguments)
    return 0


def _keys(arguments: argparse.Namespace) -> None:
    from constellation.identity import WrongFile, make_keys

    try:
        kid = make_keys(arguments.key, arguments.public)
    except FileExistsError as error:
        raise WrongSetting(f"--key: {arguments.key} exists; choose another name, tokens are signed with it") from error
    except WrongFile as error:
        raise WrongSetting(f"--public: {error}") from error
    except OSError as error:
        raise WrongSetting(f"--key, --public: cannot write {error.filename}: {error.strerror}") from error
    print(f"key {kid}: {arguments.key} signs tokens, keep it secret; {arguments.public} is for serve --token-keys")


def _issue(arguments: argparse.Namespace) -> None:
    from constellation.cli.fleet import open_issuer

    scopes = _scopes(arguments)
    subject = str(arguments.device or arguments.subject)
    issuer = open_issuer("--key", arguments.key, arguments.audience)
    token_id = arguments.id or str(uuid.uuid4())
    print(issuer.issue(subject, scopes, arguments.expires, token_id))
    print(f"sub {subject}, scope {' '.join(scopes)}, jti {token_id}, {arguments.expires} s", file=sys.stderr)


def _scopes(arguments: argparse.Namespace) -> list["Scope"]:
    """Raises `WrongSetting`."""
    from constellation.identity import DEVICE, SCOPES

    text = arguments.scope if arguments.scope is not None else DEVICE if arguments.device else ""
    given = text.replace(",", " ").split()
    scopes = [scope for scope in SCOPES if scope in given]
    if not given or len(scopes) != len(set(given)):
        raise WrongSetting(f"--scope: got {text!r}; allowed: {', '.join(SCOPES)}, or several of them with spaces")
    if DEVICE in scopes and arguments.device is None and not _is_uuid(arguments.subject):
        raise WrongSetting(f"--subject: got {arguments.subject!r}; allowed with the scope device: --device UUID")
    return scopes


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def _seconds(text: str) -> int:
    found = _EXPIRES.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed: a whole number of s, m, h or d, such as 30d")
    return int(found[1]) * _UNITS_S[found[2]]
