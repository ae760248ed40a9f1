"""TLS over real sockets: who is let in with which certificate, and that new files need no restart."""

import shutil
import signal
import uuid
from pathlib import Path

import httpx
import numpy as np
import pytest

from constellation.client import SyncClient
from constellation.model import Context
from tests.api.process import wait_for
from tests.api.secured import Secured
from tests.identity.authority import Authority
from tests.identity.fleet import DEVICE_ID, bearer


def test_who_shows_no_certificate_of_the_authority_is_not_heard(secured: Secured, tmp_path: Path) -> None:
    assert secured.server.url.startswith("https://") and secured.server.metrics_url.startswith("https://")
    assert secured.status(secured.clients) == 200
    assert secured.status(None) is None
    assert secured.status(Authority(tmp_path, "strangers")) is None
    with pytest.raises(httpx.TransportError):
        httpx.get(secured.server.url.replace("https", "http"))


def test_token_is_asked_for_behind_the_certificate(secured: Secured) -> None:
    with httpx.Client(verify=secured.context(secured.clients), base_url=secured.server.url) as client:
        assert client.get("/api/v1/info").status_code == 401
        assert client.get("/api/v1/info", headers=bearer(secured.fleet.issue("device"))).status_code == 200


def test_metrics_port_wants_a_token_and_no_certificate(secured: Secured) -> None:
    with httpx.Client(verify=secured.context(None)) as client:
        assert client.get(secured.server.metrics_url).status_code == 401
        token = secured.fleet.issue("metrics", subject="prometheus")
        assert client.get(secured.server.metrics_url, headers=bearer(token)).status_code == 200


def test_a_tv_syncs_with_certificate_and_token(secured: Secured) -> None:
    context = Context("evening", "weekend", "movie", ("drama",))
    token, tls = secured.fleet.issue("device"), secured.context(secured.clients)
    with SyncClient(secured.server.url, uuid.UUID(DEVICE_ID), token=lambda: token, tls=tls, compact=True) as tv:
        tv.learn(np.ones(384), success_rate=0.9, sample_count=20, context=context)
        assert tv.sync().accepted.added == 1


def test_new_certificates_need_no_restart_and_connections_stay(secured: Secured, tmp_path: Path) -> None:
    with httpx.Client(verify=secured.context(secured.clients), base_url=secured.server.url) as open_before:
        assert open_before.get("/health").status_code == 200
        old = secured.shown()
        secured.servers.issue("shard")
        secured.server.child.send_signal(signal.SIGHUP)
        wait_for(lambda: secured.shown() != old, 30)
        new_clients = Authority(tmp_path, "new-clients")
        shutil.copy(new_clients.certificate, secured.folder / "client-ca.pem")
        # Nobody tells the process this time.
        wait_for(lambda: secured.status(new_clients) == 200, 60)
        assert secured.status(secured.clients) is None
        assert open_before.get("/health").status_code == 200
    shutil.copy(secured.clients.certificate, secured.folder / "client-ca.pem")
    wait_for(lambda: secured.status(secured.clients) == 200, 60)


def test_key_of_another_certificate_changes_nothing_and_is_told(secured: Secured) -> None:
    old = secured.shown()
    (secured.folder / "shard.key").write_bytes(secured.servers.issue("other")[1].read_bytes())
    secured.server.child.send_signal(signal.SIGHUP)
    headers = bearer(secured.fleet.issue("admin"))
    with httpx.Client(verify=secured.context(secured.clients), base_url=secured.server.url, headers=headers) as client:

        def told() -> bool:
            part = client.get("/health/detailed").json()["components"]["tls"]
            return part["status"] == "failed" and "shard.key" in part["detail"]

        wait_for(told, 30)
        assert secured.shown() == old
        secured.servers.issue("shard")
        wait_for(lambda: client.get("/health/detailed").json()["components"]["tls"]["status"] == "ok", 30)
    assert secured.shown() != old
