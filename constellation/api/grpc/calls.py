"""What happens around every message: its request id, who sent it, its problem as a status, its account.

A call is read message by message, unary ones too: whoever calls is looked at before a message is read, and one that
does not arrive in time is refused as a slow body is. Each message is one request: in the metrics, the log, in flight.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeAlias

import grpc
from google.protobuf.message import Message

from constellation import limits
from constellation.api.accounting import Account, RequestIds
from constellation.api.admission import Class
from constellation.api.grpc import sync_pb2 as pb
from constellation.api.grpc.problems import Metadata, message_of, status_of, trailers_of
from constellation.api.service import Service
from constellation.errors import Draining, Malformed, Overloaded, Problem, TooLarge
from constellation.identity import DEVICE, Allowed, Caller

METHOD = "gRPC"
"""What the access log has in the place of an HTTP method."""

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Work: TypeAlias = Callable[[bytes, Caller, Account], Awaitable[Message]]
"""A message and who sent it to its reply; raises a `Problem`."""
Push: TypeAlias = Callable[[bytes, Account], Awaitable[pb.PushReply]]
"""One message to its reply; raises a `Problem`."""

_REQUEST_ID, _TRACEPARENT = b"x-request-id", b"traceparent"
_ALLOWED: Allowed = frozenset((DEVICE,))
_log = logging.getLogger(__name__)


class Calls:
    """All calls of one port."""

    def __init__(self, service: Service) -> None:
        self.in_flight = 0
        """Messages that are not answered yet."""
        self._service = service
        self._ids = RequestIds()
        self._streams = 0
        self._idle: set[asyncio.Timeout] = set()
        self._closing = False

    def unary(self, path: str, work: Work) -> Handler:
        """One message, one reply."""

        async def answer(_: object, context: Context) -> bytes:
            metadata = _metadata_of(context)
            with self._account(self._ids.of(metadata.get(_REQUEST_ID)), metadata.get(_TRACEPARENT), path) as account:
                try:
                    caller = self._service.identity.authorize(metadata.items(), _ALLOWED)
                    self._service.admit()
                    message = await self._read(context)
                    account.bytes_in = len(message)
                    account.trace.did("read")
                    self._admit(message)
                    reply = (await work(message, caller, account)).SerializeToString()
                    account.status, account.bytes_out = 200, len(reply)
                    context.set_trailing_metadata(_with_id((), account.request_id))
                    return reply
                except Exception as error:
                    problem = self._refused(error, account)
                    account.status = problem.status
                    await _abort(context, problem, account.request_id)

        return grpc.stream_unary_rpc_method_handler(answer)

    def stream(self, path: str, begin: Callable[[Caller], Push]) -> Handler:
        """Message by message, in order; `begin` begins a stream. A problem is an answer like any other."""

        async def answer(_: object, context: Context) -> None:
            metadata = _metadata_of(context)
            request_id, traceparent = self._ids.of(metadata.get(_REQUEST_ID)), metadata.get(_TRACEPARENT)
            try:
                caller = self._service.identity.authorize(metadata.items(), _ALLOWED)
                with self._open_stream():
                    await context.send_initial_metadata(_with_id((), request_id))
                    push = begin(caller)
                    while (message := await self._next(context)) is not None:
                        await context.write(await self._answer(message, path, push, request_id, traceparent))
            except Problem as problem:
                self._service.metrics.problem(problem.code)
                await _abort(context, problem, request_id)

        return grpc.stream_stream_rpc_method_handler(answer)

    def close_streams(self) -> None:
        """Those that wait end now, the others when their message is answered; no other begins."""
        self._closing = True
        for waiting in self._idle:
            if not waiting.expired():
                waiting.reschedule(0)

    async def _answer(
        self, message: bytes, path: str, push: Push, request_id: bytes, traceparent: bytes | None
    ) -> bytes:
        with self._account(request_id, traceparent, path) as account:
            account.bytes_in = len(message)
            try:
                self._service.admit()
                self._admit(message)
                reply, status = pb.StreamReply(reply=await push(message, account)), 200
            except Exception as error:
                problem = self._refused(error, account)
                reply, status = pb.StreamReply(problem=message_of(problem)), problem.status
            encoded = reply.SerializeToString()
            account.status, account.bytes_out = status, len(encoded)
            return encoded

    @contextmanager
    def _account(self, request_id: bytes, traceparent: bytes | None, path: str) -> Iterator[Account]:
        account = Account(request_id, self._service.tracer.begin(traceparent))
        self.in_flight += 1
        try:
            yield account
        finally:
            self.in_flight -= 1
            self._service.admission.answered(account.status)
            account.close(self._service, METHOD, path, path, is_sync=True)

    @contextmanager
    def _open_stream(self) -> Iterator[None]:
        refusal = self._service.refusal()
        if refusal is not None:
            raise refusal
        if self._streams >= limits.STREAMS_MAX:
            raise Overloaded(f"{limits.STREAMS_MAX} streams are open", retry_after_s=limits.RETRY_AFTER_S)
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    async def _next(self, context: Context) -> bytes | None:
        """The next message of a stream; None if there will be none. Raises `Draining`."""
        try:
            async with asyncio.timeout(0 if self._closing else limits.STREAM_IDLE_S_MAX) as waiting:
                self._idle.add(waiting)
                try:
                    message = await context.read()
                finally:
                    self._idle.discard(waiting)
        except TimeoutError:
            if self._closing:
                raise Draining("this process is stopping", retry_after_s=limits.RETRY_AFTER_S) from None
            return None
        return None if message is grpc.aio.EOF else message

    async def _read(self, context: Context) -> bytes:
        """The one message of a call. Raises `Malformed`, also if it does not arrive."""
        admission = self._service.admission
        admission.awaiting_client += 1
        try:
            async with asyncio.timeout(limits.BODY_READ_S_MAX):
                message = await context.read()
        except TimeoutError:
            raise Malformed(f"message: did not arrive within {limits.BODY_READ_S_MAX} s") from None
        finally:
            admission.awaiting_client -= 1
        if message is grpc.aio.EOF:
            raise Malformed("message: expected one, got none")
        assert isinstance(message, bytes)
        return message

    def _admit(self, message: bytes) -> None:
        """Raises `TooLarge`, and `Overloaded` where what brings no pattern has to wait."""
        size_max = self._service.settings.max_body_bytes
        if len(message) > size_max:
            raise TooLarge(f"message: {len(message)} bytes, at most {size_max} are read")
        kind = Class.QUIET if len(message) <= limits.QUIET_BODY_BYTES_MAX else Class.TELLING
        if not self._service.admission.has_room(kind):
            raise self._service.admission.overloaded("no_room")

    def _refused(self, error: Exception, account: Account) -> Problem:
        """The problem that the caller is told. What nobody expected tells the request id alone, as by REST."""
        problem = error if isinstance(error, Problem) else None
        if problem is None:
            _log.error("unexpected error", exc_info=error, extra=account.told(self._service))
            problem = Problem("an unexpected error; the log has it under this request id")
        self._service.metrics.problem(problem.code)
        return problem


async def _abort(context: Context, problem: Problem, request_id: bytes) -> NoReturn:
    await context.abort(status_of(problem), problem.detail, _with_id(trailers_of(problem), request_id))


def _with_id(metadata: Metadata, request_id: bytes) -> Metadata:
    return (*metadata, (_REQUEST_ID.decode(), request_id.decode()))


def _metadata_of(context: Context) -> dict[bytes, bytes]:
    """As the headers of HTTP are; of a key that comes twice the values are one, which is no token."""
    found: dict[bytes, bytes] = {}
    for name, sent in context.invocation_metadata() or ():
        key, value = name.encode(), sent if isinstance(sent, bytes) else sent.encode()
        found[key] = found[key] + b", " + value if key in found else value
    return found
