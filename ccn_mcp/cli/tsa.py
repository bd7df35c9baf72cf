"""Asking a time stamp authority over HTTP (RFC 3161 section 3.4), with an end to time and size."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from ccn_mcp.domain.errors import AnchorFailed, BadInput
from ccn_mcp.store.timestamps import TOKEN_BYTES_MAX

ASK_S_MAX: Final = 30.0
"""For everything: finding the host, connecting, asking, reading the answer."""

QUERY_TYPE: Final = "application/timestamp-query"
REPLY_TYPE: Final = "application/timestamp-reply"
OK: Final = 200


def checked_url(url: str) -> str:
    """The address without what may be a secret in it, to be recorded.

    Raises:
        BadInput: it is not https (or http to this machine), or has a name and password in it.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as wrong:
        raise BadInput(f"--tsa is no address ({wrong}); give one such as https://freetsa.org/tsr") from wrong
    if parts.username or parts.password:
        raise BadInput("--tsa has a name or password in it; give the address without")
    if not host or parts.scheme not in ("http", "https"):
        raise BadInput("--tsa is no web address; give one such as https://freetsa.org/tsr")
    if parts.scheme == "http" and not _is_loopback(host):
        raise BadInput(
            "--tsa is http: anybody on the way could answer in the authority's place. Give its https address; http is "
            "for this machine only"
        )
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}{f':{port}' if port is not None else ''}{parts.path}"


def ask(url: str, query: bytes) -> bytes:
    """The authority's answer.

    Raises:
        AnchorFailed: none came in time, or it is no answer to such a question.
    """
    return asyncio.run(_ask(url, query))


async def _ask(url: str, query: bytes) -> bytes:
    import httpx2  # only this command talks to the net

    headers = {"Content-Type": QUERY_TYPE, "Accept": REPLY_TYPE, "Accept-Encoding": "identity"}
    answer = bytearray()
    try:
        async with (
            asyncio.timeout(ASK_S_MAX),
            httpx2.AsyncClient(follow_redirects=False, timeout=ASK_S_MAX) as client,
            client.stream("POST", url, content=query, headers=headers) as response,
        ):
            if response.status_code != OK:
                raise AnchorFailed(
                    f"the authority answered HTTP {response.status_code}; check its address. Nothing was recorded"
                )
            async for piece in response.aiter_raw():
                answer += piece
                if len(answer) > TOKEN_BYTES_MAX:
                    raise AnchorFailed(
                        f"the authority's answer has more than {TOKEN_BYTES_MAX:,} bytes and was not read to its end; "
                        "nothing was recorded"
                    )
    except TimeoutError as late:
        raise AnchorFailed(
            f"the authority did not answer within {ASK_S_MAX:g} s; try again later. Nothing was recorded"
        ) from late
    except (httpx2.HTTPError, httpx2.InvalidURL) as failed:
        said = str(failed) or type(failed).__name__
        raise AnchorFailed(f"the authority cannot be asked: {said}. Nothing was recorded") from failed
    return bytes(answer)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
