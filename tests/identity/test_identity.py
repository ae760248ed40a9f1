"""Who a call is of: bad tokens, the cache and what ends an entry of it, files that are written anew."""

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation.config import Settings
from constellation.errors import Forbidden, MissingScope, Unauthenticated
from constellation.identity import ANYBODY, Caller, Identity, open_identity, verifying
from constellation.identity.issuing import make_keys
from constellation.identity.keys import add_public, read_private, thumbprint
from tests.identity.fleet import DEVICE_ID, HOUR_S, REVOKED_ID, Fleet, bearer


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def opened(fleet: Fleet, clock: Clock | None = None, **settings: Any) -> Identity:
    chosen = Settings(token_keys=str(fleet.public), token_revocations=str(fleet.revocations), **settings)
    return open_identity(chosen, clock or Clock())


def ask(identity: Identity, token: str) -> Caller:
    return identity.authenticate(
        [(b"host", b"x"), *((name.lower().encode(), value.encode()) for name, value in bearer(token).items())]
    )


def test_good_token_tells_device_and_scopes(fleet: Fleet) -> None:
    caller = ask(opened(fleet), fleet.issue("device", "metrics"))
    assert caller.device_id is not None and caller.device_id.hex() == DEVICE_ID.replace("-", "")
    assert caller.scopes == {"device", "metrics"}
    caller.require(frozenset(("device", "admin")))
    caller.require_device(caller.device_id)
    with pytest.raises(MissingScope):
        caller.require(frozenset(("admin", "content")))
    with pytest.raises(Forbidden):
        caller.require_device(bytes(16))


def test_bad_tokens_are_refused_each_time(fleet: Fleet) -> None:
    identity = opened(fleet)
    for what, token in fleet.bad().items():
        for _ in range(2):
            with pytest.raises(Unauthenticated):
                pytest.fail(f"{what}: {ask(identity, token)}")


@pytest.mark.parametrize("exp", [float("nan"), float("inf"), "soon", True, [], -1])
def test_expiry_that_is_no_time_is_refused(fleet: Fleet, exp: object) -> None:
    with pytest.raises(Unauthenticated):
        ask(opened(fleet), fleet.signed({"exp": exp}))


@pytest.mark.parametrize(
    "authorization", [b"", b"Bearer", b"Bearer ", b"Basic eDp5", b"Bearer a b", b"Bearer \xff", b"bearer" * 10_000]
)
def test_other_credentials_are_refused(fleet: Fleet, authorization: bytes) -> None:
    with pytest.raises(Unauthenticated):
        opened(fleet).authenticate([(b"authorization", authorization)])


def test_two_tokens_are_none(fleet: Fleet) -> None:
    header = (b"authorization", b"Bearer " + fleet.issue("device").encode())
    assert opened(fleet).authenticate([header]).scopes == {"device"}
    with pytest.raises(Unauthenticated):
        opened(fleet).authenticate([header, header])


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return opened(Fleet(tmp_path_factory.mktemp("fleet")))


@given(noise=st.binary(max_size=300))
def test_any_bytes_are_refused_and_nothing_else_happens(standing: Identity, noise: bytes) -> None:
    for value in (noise, b"Bearer " + noise, b"Bearer " + b".".join([noise.hex().encode()] * 3)):
        with pytest.raises(Unauthenticated):
            standing.authenticate([(b"authorization", value)])


def test_scheme_is_read_in_any_case_and_scopes_of_others_are_ignored(fleet: Fleet) -> None:
    token = fleet.signed({"scope": "openid device profile"})
    assert opened(fleet).authenticate([(b"authorization", b"bEARER " + token.encode())]).scopes == {"device"}


def test_token_of_two_audiences_and_without_device_is_good(fleet: Fleet) -> None:
    token = fleet.signed({"aud": ["other", "constellation"], "sub": "prometheus", "scope": "metrics"})
    caller = ask(opened(fleet), token)
    assert caller.subject == "prometheus" and caller.device_id is None
    assert caller.scopes == frozenset(("metrics",))


def test_audience_is_a_setting(fleet: Fleet) -> None:
    token = fleet.signed({"aud": "another-fleet"})
    assert ask(opened(fleet, audience="another-fleet"), token).scopes
    with pytest.raises(Unauthenticated, match="another audience"):
        ask(opened(fleet), token)


def test_token_is_verified_once_and_dies_at_its_expiry(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, verified = Clock(), count_verifications(monkeypatch)
    identity, token = opened(fleet, clock), fleet.issue("device")
    assert ask(identity, token) is ask(identity, token)
    assert len(verified) == 1
    clock.now += HOUR_S - 2
    ask(identity, token)
    clock.now += 3
    with pytest.raises(Unauthenticated, match="expired"):
        ask(identity, token)


def test_cache_is_bounded_and_the_longest_unused_goes(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    verified = count_verifications(monkeypatch)
    identity = opened(fleet, max_cached_tokens=2)
    first, second, third = (fleet.issue("device") for _ in range(3))
    for token in (first, second, first, third, first):
        ask(identity, token)
    assert len(verified) == 3, "the first was used when the third came"
    ask(identity, second)
    assert len(verified) == 4


def count_verifications(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    verified: list[bytes] = []
    real = verifying._claims

    def counted(token: bytes, *rest: Any) -> Any:
        verified.append(token)
        return real(token, *rest)

    monkeypatch.setattr(verifying, "_claims", counted)
    return verified


def test_revocation_ends_a_token_that_was_cached(fleet: Fleet) -> None:
    identity = opened(fleet)
    token, other = fleet.signed({"jti": "t-1"}), fleet.signed({"jti": "t-2"})
    assert ask(identity, token) and ask(identity, other)
    fleet.revocations.write_text(f'{{"jti": ["{REVOKED_ID}", "T-1"]}}')
    identity.look()
    with pytest.raises(Unauthenticated, match="revoked"):
        ask(identity, token)
    assert ask(identity, other)
    fleet.revocations.write_text(f'["{DEVICE_ID}"]')
    identity.look()
    with pytest.raises(Unauthenticated, match="revoked"):
        ask(identity, other)


def test_keys_rotate(fleet: Fleet, tmp_path: Path) -> None:
    identity = opened(fleet)
    old = fleet.issue("device")
    make_keys(tmp_path / "next.pem", fleet.public)
    key = read_private(tmp_path / "next.pem")
    new = fleet.signed(key=key, headers={"kid": thumbprint(key.public_key())})
    with pytest.raises(Unauthenticated):
        ask(identity, new)
    identity.look()
    assert ask(identity, old) and ask(identity, new)
    fleet.public.unlink()
    identity.look()
    assert "cannot read" in identity.failing and ask(identity, old)
    add_public(fleet.public, key.public_key())
    identity.look()
    assert identity.failing == "" and ask(identity, new)
    with pytest.raises(Unauthenticated):
        ask(identity, old)


@pytest.mark.parametrize("content", ["", "{", '{"keys": []}', "-----BEGIN PUBLIC KEY-----\n", "[[["])
def test_damaged_files_change_nothing_and_are_told(fleet: Fleet, content: str) -> None:
    identity, token = opened(fleet), fleet.issue("device")
    fleet.public.write_text(content)
    identity.look()
    assert identity.failing and str(fleet.public) in identity.failing
    assert ask(identity, token)


def test_file_is_looked_at_again_only_when_it_was_written(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    verified = count_verifications(monkeypatch)
    identity, token = opened(fleet), fleet.issue("device")
    for _ in range(3):
        ask(identity, token)
        identity.look()
    assert len(verified) == 1


def test_without_keys_everybody_is_believed_but_no_proxy() -> None:
    identity = open_identity(Settings())
    assert identity.authenticate([(b"host", b"x")]) is ANYBODY and not identity.required
    ANYBODY.require(frozenset(("admin",)))
    ANYBODY.require_device(bytes(16))
    for name in (b"forwarded", b"x-forwarded-for", b"x-forwarded-proto"):
        with pytest.raises(Forbidden, match="proxy"):
            identity.authenticate([(b"host", b"x"), (name, b"")])
    assert open_identity(Settings(insecure=True)).authenticate([(b"forwarded", b"")]) is ANYBODY
