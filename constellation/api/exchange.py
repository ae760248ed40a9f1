"""One sync, whichever door it came by: from the decoded request to the reply that may be sent.

A door asks `service.admit` first, before it reads anything; then it decodes, comes here, and sends what it gets.
"""

from collections.abc import Callable
from typing import TypeVar

from constellation.api.accounting import Account
from constellation.api.service import Service
from constellation.model import Answer, Applied, SyncOptions, SyncRequest

Encoded = TypeVar("Encoded")


async def exchange(
    service: Service,
    account: Account,
    asked: SyncRequest,
    options: SyncOptions,
    encode: Callable[[Answer, Applied], Encoded],
) -> Encoded:
    """The reply, once what it tells is kept.

    Raises what `admit_device`, `admit_change`, `charge`, `apply` and `kept` raise.
    """
    trace = account.trace
    account.device_id = asked.device_id
    trace.did("decode")
    service.admit_device(asked.device_id)
    service.admit_change()
    now = service.clock()
    service.shard.charge(asked.device_id, now)
    applied = service.shard.apply(asked, now)
    # A delta that changed nothing has nothing to wait for; a repeated one waits for the original.
    position = service.keep() if service.shard.change or applied.accepted.duplicate else 0
    trace.did("apply")
    answer = service.shard.answer(asked.device_id, options, asked.delta.local_version)
    trace.did("similarity")
    encoded = encode(answer, applied)
    trace.did("encode")
    await service.keeper.kept(position)
    trace.did("journal")
    return encoded
