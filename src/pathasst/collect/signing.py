"""AWS Signature Version 4 for GET requests to private S3-compatible stores. The public PMC bucket needs none.

Follows the published algorithm (AWS General Reference, "Signature Version 4 signing process").
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote

import httpx

EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Signer:
    """Signs requests with an access key. `token` is a session token, if there is one."""

    key: str
    secret: str
    region: str
    token: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], region: str) -> Signer | None:
        """A signer when AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are set, else None: anonymous."""
        key, secret = environment.get("AWS_ACCESS_KEY_ID", ""), environment.get("AWS_SECRET_ACCESS_KEY", "")
        return cls(key, secret, region, environment.get("AWS_SESSION_TOKEN", "")) if key and secret else None

    def __call__(self, request: httpx.Request, now: datetime.datetime | None = None) -> None:
        """Add the headers that authorise this request."""
        stamp = (now or datetime.datetime.now(datetime.UTC)).strftime("%Y%m%dT%H%M%SZ")
        request.headers["x-amz-date"], request.headers["x-amz-content-sha256"] = stamp, EMPTY
        if self.token:
            request.headers["x-amz-security-token"] = self.token
        signed = sorted(
            h for h in ("host", "range", *(k for k in request.headers if k.startswith("x-amz-"))) if h in request.headers
        )
        pairs = sorted((quote(k, safe="~"), quote(v, safe="~")) for k, v in parse_qsl(request.url.query.decode(), True))
        canonical = "\n".join(
            [
                request.method,
                quote(request.url.path, safe="/~"),
                "&".join(f"{k}={v}" for k, v in pairs),
                *(f"{h}:{request.headers[h].strip()}" for h in signed),
                "",
                ";".join(signed),
                EMPTY,
            ]
        )
        scope = f"{stamp[:8]}/{self.region}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        secret = f"AWS4{self.secret}".encode()
        for part in scope.split("/"):
            secret = hmac.digest(secret, part.encode(), "sha256")
        signature = hmac.digest(secret, text.encode(), "sha256").hex()
        request.headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.key}/{scope},SignedHeaders={';'.join(signed)},Signature={signature}"
        )
