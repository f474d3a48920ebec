"""Fetching a picture by its address, which a server does only for hosts on its list. Knows HTTP and addresses, no pictures.

A name is looked up once, every address it has must be public, and the connection goes to the address that was checked (so that
a second look-up cannot answer otherwise). A redirect is a new address: checked in the same way, and no more than three.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

from pathasst.core.errors import BadInput, Unreachable

REDIRECTS = 3
PORTS = (None, 80, 443)


def resolve(host: str) -> list[str]:
    """Every address of a host. Raises Unreachable when it has none."""
    try:
        return list(dict.fromkeys(str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)))
    except (OSError, UnicodeError) as error:
        raise Unreachable(f"the host {host} was not found: {error}") from error


def public(address: str) -> bool:
    """Whether an address lies in the public internet: not loopback, private, link-local, shared, multicast or mapped to one."""
    try:
        ip = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None and not (inner.is_global and not inner.is_multicast):
            return False
    return ip.is_global and not ip.is_multicast


@dataclass(slots=True)
class Fetcher:
    """Fetches from `hosts` alone: exact names, in lower case. Without hosts nothing is ever fetched."""

    hosts: Sequence[str] = ()
    max_bytes: int = 20 * 2**20
    seconds: float = 15.0
    resolve: Callable[[str], list[str]] = resolve
    public: Callable[[str], bool] = public
    ports: Sequence[int | None] = field(default=PORTS)

    def get(self, url: str) -> bytes:
        """The content at an address. Raises BadInput when it may not be fetched or is too large, Unreachable when it fails."""
        import httpx

        end = time.monotonic() + self.seconds
        with httpx.Client(trust_env=False, timeout=self.seconds, follow_redirects=False) as client:
            for _ in range(REDIRECTS + 1):
                host, pinned = self._checked(url)
                request = client.build_request("GET", pinned, headers={"Host": urlsplit(url).netloc.rpartition("@")[2]})
                request.extensions["sni_hostname"] = host
                try:
                    answer = client.send(request, stream=True)
                    try:
                        if answer.is_redirect:
                            url = urljoin(url, answer.headers.get("location", ""))
                            continue
                        answer.raise_for_status()
                        return self._body(answer, end)
                    finally:
                        answer.close()
                except httpx.HTTPError as error:
                    raise Unreachable(f"{host} could not be read: {type(error).__name__}") from error
        raise BadInput(f"the address leads on more than {REDIRECTS} times.")

    def _checked(self, url: str) -> tuple[str, str]:
        """The host's name, and the address with the name replaced by the one that was checked."""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").lower().rstrip("."), parts.port
        except ValueError as error:
            raise BadInput(f"this is no address: {error}") from error
        if parts.scheme not in ("http", "https") or parts.username or parts.password or port not in self.ports:
            raise BadInput("a picture's address is http or https, without a name, password or port of its own.")
        if host not in self.hosts:
            raise BadInput(
                f"pictures are not fetched from {host or 'there'}: send it as a data URL, or ask for the host to be allowed."
            )
        addresses = self.resolve(host)
        if not addresses or not all(self.public(address) for address in addresses):
            raise BadInput(f"{host} has no address, or one that is not public: nothing was fetched.")
        address = f"[{addresses[0]}]" if ":" in addresses[0] else addresses[0]
        return host, parts._replace(netloc=f"{address}:{port}" if port else address, fragment="").geturl()

    def _body(self, answer: object, end: float) -> bytes:
        content = bytearray()
        for block in answer.iter_bytes(1 << 16):  # type: ignore[attr-defined]
            content += block
            if len(content) > self.max_bytes:
                raise BadInput(f"the picture has more than {self.max_bytes >> 20} MB.")
            if time.monotonic() > end:
                raise Unreachable(f"the picture did not come within {self.seconds:g} s.")
        return bytes(content)
