"""A network is there when a connection opens, to the host or to the proxy that is set for it."""

from __future__ import annotations

import socket

import pytest

from infoprompt_jax.network import reachable

CLOSED = "127.0.0.1:9"


@pytest.fixture(autouse=True)
def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_a_closed_port_is_not_reachable_and_an_open_one_is() -> None:
    assert not reachable(f"http://{CLOSED}", seconds=1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert reachable(f"https://127.0.0.1:{server.getsockname()[1]}", seconds=1)


def test_a_host_behind_a_proxy_is_reached_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        assert reachable(f"https://{CLOSED}", seconds=1)
        assert not reachable(f"http://{CLOSED}", seconds=1)
