"""The TV's side of sync: what runs on a device, and in every simulated one.

`Client` (asyncio) and `SyncClient` (blocking) keep what a TV learned and what it received, and talk to one shard.
The path of one sync: `device` prepares a delta from `learned`, `transport` gets it answered, `received` takes the
reply.
"""

from constellation.client.blocking import SyncClient
from constellation.client.codebooks import Codebooks
from constellation.client.device import Client, SyncReport
from constellation.client.failures import BadReply, Refused, SyncFailed, Unreachable, WrongDigest
from constellation.client.transport import Token, Transport, open_session

__all__ = [
    "BadReply",
    "Client",
    "Codebooks",
    "Refused",
    "SyncClient",
    "SyncFailed",
    "SyncReport",
    "Token",
    "Transport",
    "Unreachable",
    "WrongDigest",
    "open_session",
]
