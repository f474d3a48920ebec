"""HTTP GET as a good guest: a rate limit, retries with back-off, `Retry-After`, limits of time and size, a contact address.

Knows HTTP and nothing of buckets or articles. Safe to share between threads: they share its rate.
"""

from __future__ import annotations

import email.utils
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx

from pathasst.core.errors import Unreachable

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
MAX_BODY = 512 * 2**20
MAX_WAIT = 300.0  # seconds; a server that asks for more is not waited for within one request

Sign = Callable[[httpx.Request], None]


@dataclass(frozen=True, slots=True)
class Download:
    """A body and its ETag (without quotes)."""

    content: bytes
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why to try again, and how many seconds the server asks to wait."""

    reason: str
    wait: float | None = None


class PoliteClient:
    """GET with manners.

    `rate`: requests per second over all threads; `attempts`: tries per request; `back_off`: seconds before the second try,
    doubled each time with jitter; `timeout`: seconds without a byte; `deadline`: seconds for a whole answer; `contact`: an e-mail
    address, told to the server.
    """

    def __init__(
        self,
        *,
        rate: float = 10.0,
        attempts: int = 6,
        back_off: float = 0.5,
        timeout: float = 30.0,
        deadline: float = 300.0,
        contact: str = "",
        sign: Sign | None = None,
    ) -> None:
        self.gap, self.attempts, self.back_off, self.deadline, self.sign = 1.0 / rate, attempts, back_off, deadline, sign
        agent = "pathasst (figure collector" + (f"; {contact})" if contact else ")")
        self.http = httpx.Client(
            timeout=timeout, follow_redirects=True, headers={"User-Agent": agent, "Accept-Encoding": "identity"}
        )
        self.lock, self.next_start = threading.Lock(), 0.0
        self.requests = 0
        self.bytes = 0

    def get(self, url: str, params: Mapping[str, str] | None = None) -> Download | None:
        """The answer, or None when there is no such thing (404).

        Raises Unreachable when the server refuses, or still fails after the allowed tries.
        """
        failure = Failure("no answer")
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(self._pause(attempt, failure.wait))
            self._wait_for_turn()
            try:
                answer = self._once(url, params)
            except httpx.TransportError as error:  # cut, refused, timed out
                failure = Failure(f"{type(error).__name__}: {error}")
                continue
            except (httpx.InvalidURL, httpx.TooManyRedirects) as error:
                raise Unreachable(f"{url}: {error}. Check the address.") from error
            if not isinstance(answer, Failure):
                return answer
            failure = answer
        raise Unreachable(f"{url}: {failure.reason} after {self.attempts} tries. Run the same command again later.")

    def _once(self, url: str, params: Mapping[str, str] | None) -> Download | Failure | None:
        request = self.http.build_request("GET", url, params=dict(params or {}))
        if self.sign is not None:
            self.sign(request)
        start, body = time.monotonic(), bytearray()
        response = self.http.send(request, stream=True)
        try:
            self.requests += 1
            if response.status_code == 404:
                return None
            if response.status_code in RETRIED:
                return Failure(f"HTTP {response.status_code}", seconds_of(response.headers.get("Retry-After", "")))
            if response.status_code >= 400:
                raise Unreachable(f"{url}: refused with {response.status_code}. Check address and credentials.")
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_BODY:
                    raise Unreachable(f"{url}: more than {MAX_BODY} bytes.")
                if time.monotonic() - start > self.deadline:
                    return Failure(f"slower than {self.deadline:.0f} s")
        finally:
            response.close()
            self.bytes += len(body)
        return Download(bytes(body), response.headers.get("ETag", "").strip('"'))

    def _wait_for_turn(self) -> None:
        with self.lock:
            start = max(self.next_start, time.monotonic())
            self.next_start = start + self.gap
        time.sleep(max(0.0, start - time.monotonic()))

    def _pause(self, attempt: int, server_wait: float | None = None) -> float:
        """Seconds before the next try: what the server asks for, else exponential with jitter."""
        if server_wait is not None:
            return min(server_wait, MAX_WAIT)
        return min(self.back_off * 2 ** (attempt - 1) * random.uniform(0.75, 1.25), MAX_WAIT)


def seconds_of(retry_after: str) -> float | None:
    """Seconds that a `Retry-After` header asks for (a number or an HTTP date), or None when it says nothing."""
    text = retry_after.strip()
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time()) if text else None
    except ValueError:
        return None
