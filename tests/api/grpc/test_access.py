"""Who may call by gRPC: the tokens and certificates of REST, over a real socket."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest

from constellation.api.grpc import sync_pb2 as pb
from tests.api import bodies
from tests.api.grpc.tv import Refused, Tv, refused, request
from tests.api.secured import Secured
from tests.identity.authority import Authority
from tests.identity.fleet import DEVICE_ID, Fleet

OTHER_ID = str(uuid.uuid4())


class Guarded(NamedTuple):
    """A TV with a certificate, on a shard that asks for one and for tokens."""

    shard: Secured
    tv: Tv

    @property
    def fleet(self) -> Fleet:
        return self.shard.fleet


@pytest.fixture(scope="module")
def guarded(secured: Secured) -> Iterator[Guarded]:
    with secured.channel(secured.clients) as channel:
        yield Guarded(secured, Tv(channel))


def push(tv: Tv, token: str, device_id: str = DEVICE_ID) -> pb.PushReply | Refused:
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    try:
        return tv.push(request(bodies.body(device_id=device_id)), metadata=metadata, timeout=20)
    except grpc.RpcError as error:
        return refused(error)


def code_of(answer: pb.PushReply | Refused) -> tuple[grpc.StatusCode, str | None]:
    assert isinstance(answer, Refused)
    return answer.status, answer.code


def test_bad_tokens_are_told_nothing(guarded: Guarded) -> None:
    for why, token in guarded.fleet.bad().items():
        answer = push(guarded.tv, token)
        told = code_of(answer)
        # What is long may be too long for the library already, which draws lots beyond 8 KiB.
        if why != "too long" or told != (grpc.StatusCode.RESOURCE_EXHAUSTED, None):
            assert told == (grpc.StatusCode.UNAUTHENTICATED, "unauthenticated"), why
    # Before the message is looked at.
    with pytest.raises(grpc.RpcError) as raised:
        guarded.tv.send(b"\xff" * 100, timeout=20)
    assert refused(raised.value).status is grpc.StatusCode.UNAUTHENTICATED


def test_a_token_is_good_for_its_device_and_scope_alone(guarded: Guarded) -> None:
    forbidden = grpc.StatusCode.PERMISSION_DENIED, "forbidden"
    assert code_of(push(guarded.tv, guarded.fleet.issue("device"), OTHER_ID)) == forbidden
    assert code_of(push(guarded.tv, guarded.fleet.issue("metrics", "admin"))) == forbidden
    assert isinstance(push(guarded.tv, guarded.fleet.issue("device")), pb.PushReply)


def test_pulls_and_streams_ask_too(guarded: Guarded) -> None:
    metadata = (("authorization", f"Bearer {guarded.fleet.issue('device')}"),)
    with pytest.raises(grpc.RpcError) as raised:
        guarded.tv.pull(pb.PullRequest(device_id=uuid.UUID(OTHER_ID).bytes), metadata=metadata, timeout=20)
    assert refused(raised.value).status is grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(grpc.RpcError) as raised:
        list(guarded.tv.stream(iter([request(bodies.body(device_id=DEVICE_ID))]), timeout=20))
    assert refused(raised.value).status is grpc.StatusCode.UNAUTHENTICATED
    asked = [request(bodies.body(device_id=device)) for device in (OTHER_ID, DEVICE_ID)]
    answers = list(guarded.tv.stream(iter(asked), metadata=metadata, timeout=20))
    assert answers[0].problem.code == "forbidden", "another household"
    assert answers[1].problem.path == "device_id", "a stream is of its first device"


def test_who_shows_no_certificate_is_not_heard(guarded: Guarded, tmp_path: Path) -> None:
    for clients in (None, Authority(tmp_path, "strangers")):
        with guarded.shard.channel(clients) as channel:
            answer = push(Tv(channel), guarded.fleet.issue("device"))
            assert isinstance(answer, Refused) and answer.status is grpc.StatusCode.UNAVAILABLE
