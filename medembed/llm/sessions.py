"""The HTTP sessions in which servers are spoken to: their connections, their time-outs, and the key that goes to each host.

How many connections there are is up to the windows of the endpoints, and how long an attempt may take to `Server.ask`: neither is
limited here but for the time in which a server must take a connection.
"""

import os
import re
from functools import cache
from ssl import SSLContext
from urllib.request import getproxies, proxy_bypass

import httpx2

START_UP = 20.0  # seconds in which a server must take a connection, and say who it is
TIMEOUT = httpx2.Timeout(None, connect=START_UP)
KEY = "Set MEDEMBED_API_KEY in the environment (for endpoints of Hugging Face, HF_TOKEN)."

_POOLS = 32
_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=None)


def session() -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=_Pools(), timeout=TIMEOUT, auth=_with_key)


class _Pools(httpx2.AsyncBaseTransport):
    """Many small pools of connections to one host, by turns: httpcore looks at all connections of a pool for each request, and with 400
    in flight one pool takes twice the CPU of everything else. The proxy that the environment names is used, as httpx2 itself would."""

    def __init__(self) -> None:
        self._pools: list[httpx2.AsyncHTTPTransport] = []
        self._turn = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if not self._pools:
            proxies = {} if proxy_bypass(request.url.host) else getproxies()
            proxy = proxies.get(request.url.scheme) or proxies.get("all")
            self._pools = [
                httpx2.AsyncHTTPTransport(verify=_certificates(), limits=_LIMITS, proxy=proxy) for _ in range(_POOLS)
            ]
        self._turn = (self._turn + 1) % _POOLS
        return await self._pools[self._turn].handle_async_request(request)

    async def aclose(self) -> None:
        for pool in self._pools:
            await pool.aclose()


@cache
def _certificates() -> SSLContext:
    """Those that are trusted; it takes a tenth of a second to read them."""
    return httpx2.create_ssl_context()


def _with_key(request: httpx2.Request) -> httpx2.Request:
    """The request with the key that is meant for its host, and with no other: a Hub token is nobody else's business."""
    key = os.environ.get("MEDEMBED_API_KEY")
    if not key and re.search(r"(^|\.)huggingface\.(co|cloud)$", request.url.host):
        key = os.environ.get("HF_TOKEN")
    request.headers.pop("Authorization", None)  # huggingface_hub would send the token of `hf auth login` to any server
    if key:
        request.headers["Authorization"] = f"Bearer {key}"
    return request
