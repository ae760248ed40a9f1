"""The three calls of `constellation.v1.SyncService`: a message decoded, exchanged with the shard, its reply encoded."""

import grpc
from google.protobuf.message import Message

from constellation.api.accounting import Account
from constellation.api.exchange import exchange
from constellation.api.grpc import sync_pb2 as pb
from constellation.api.grpc.calls import Calls, Handler, Push
from constellation.api.grpc.messages import Asked, decode_pull, decode_push, pull_reply, push_reply
from constellation.api.service import Service
from constellation.errors import InvalidParameter, NotFound
from constellation.identity import Caller
from constellation.model import Answer, Applied, ContentItem

SERVICE: str = pb.DESCRIPTOR.services_by_name["SyncService"].full_name


def handlers(service: Service, calls: Calls) -> grpc.GenericRpcHandler:
    """What the door serves."""
    sync = _Sync(service)
    methods: dict[str, Handler] = {
        "PushPatterns": calls.unary(f"/{SERVICE}/PushPatterns", sync.push),
        "PullPatterns": calls.unary(f"/{SERVICE}/PullPatterns", sync.pull),
        "StreamSync": calls.stream(f"/{SERVICE}/StreamSync", sync.begin_stream),
    }
    return grpc.method_handlers_generic_handler(SERVICE, methods)


class _Sync:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def push(self, message: bytes, caller: Caller, account: Account) -> pb.PushReply:
        return await self._push(decode_push(message), caller, account)

    async def pull(self, message: bytes, caller: Caller, account: Account) -> Message:
        asked = decode_pull(message)
        caller.require_device(asked.request.device_id)
        titles = [self._title(content_id, place) for place, content_id in enumerate(asked.content_ids)]

        def encode(answer: Answer, applied: Applied) -> Message:
            return pull_reply(answer, applied, self._service.admission.next_sync, asked.options.embedding, titles)

        return await exchange(self._service, account, asked.request, asked.options, encode)

    def begin_stream(self, caller: Caller) -> Push:
        """The first device that comes has the stream."""
        device_id: bytes | None = None

        async def push(message: bytes, account: Account) -> pb.PushReply:
            nonlocal device_id
            asked = decode_push(message)
            device_id = device_id or asked.request.device_id
            if asked.request.device_id != device_id:
                raise InvalidParameter("device_id: expected that of the stream's first message", path="device_id")
            return await self._push(asked, caller, account)

        return push

    async def _push(self, asked: Asked, caller: Caller, account: Account) -> pb.PushReply:
        caller.require_device(asked.request.device_id)

        def encode(answer: Answer, applied: Applied) -> pb.PushReply:
            return push_reply(answer, applied, self._service.admission.next_sync, asked.options.embedding)

        return await exchange(self._service, account, asked.request, asked.options, encode)

    def _title(self, content_id: str, place: int) -> ContentItem:
        try:
            return self._service.shard.content(content_id)
        except NotFound as error:
            path = f"content_ids[{place}]"
            raise NotFound(f"{path}: {error.detail}", path=path) from None
