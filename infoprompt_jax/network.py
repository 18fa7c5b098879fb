"""Whether a network is there, checked before a download that would otherwise time out after minutes."""

from __future__ import annotations

import socket
import urllib.parse
import urllib.request

SECONDS = 3.0  # within which a connection must open


def reachable(url: str, seconds: float = SECONDS) -> bool:
    """Whether a TCP connection to the URL's host opens within `seconds`, or to the proxy that is set for it."""
    server = urllib.parse.urlsplit(url)
    if proxy := urllib.request.getproxies().get(server.scheme):
        server = urllib.parse.urlsplit(proxy)
    try:
        with socket.create_connection((server.hostname, server.port or 443), timeout=seconds):
            return True
    except OSError:
        return False
