"""Where the objects of PubMed Central lie: the public HTTPS bucket, any S3-compatible store, or a folder that mirrors it.

One small interface, so that everything else is the same for all three. Knows keys and bytes, nothing of articles.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from lxml import etree

from pathasst.collect.pictures import md5_of
from pathasst.collect.polite import PoliteClient
from pathasst.collect.signing import Signer
from pathasst.core.errors import BadInput, BadSettings, Unreachable
from pathasst.core.settings import Field, Settings

PMC_BUCKET = "https://pmc-oa-opendata.s3.amazonaws.com"
PMC_REGION = "us-east-1"
_PARSER = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)


@dataclass(frozen=True, slots=True)
class Listed:
    """One object of a listing; `prefix` entries are folders (size 0)."""

    key: str
    size: int = 0
    modified: str = ""


class Store(Protocol):
    """What the collector asks of a store."""

    def get(self, key: str, md5: str = "") -> bytes | None:
        """The object, or None when there is none. Raises Unreachable when it cannot be had, or only with a wrong MD5."""

    def list(self, prefix: str, delimiter: str = "") -> Iterator[Listed]:
        """Objects (and, with a delimiter, folders) below a prefix, in key order."""

    @property
    def traffic(self) -> tuple[int, int]:
        """(requests, bytes) so far."""


class StoreSettings(Settings):
    """How to reach a store. Plain values, so that it travels to worker processes; `open` makes the live one."""

    address: str = Field(
        default=PMC_BUCKET, description="https:// or http:// of a bucket, s3://bucket (with `endpoint`), or a folder."
    )
    endpoint: str = Field(default="", description="Of an S3-compatible server, for s3:// addresses.")
    region: str = PMC_REGION
    rate: float = Field(default=10.0, gt=0, description="Requests per second of this process.")
    attempts: int = Field(default=6, ge=1, description="Tries of one request.")
    back_off: float = Field(default=0.5, ge=0, description="Seconds before the second try; doubles.")
    timeout: float = Field(default=30.0, gt=0, description="Seconds without a byte.")
    contact: str = Field(default="", description="Mail address that the server's keepers can write to.")

    def open(self) -> Store:
        """Raises BadSettings for an address that is none. Keys for signed requests come from AWS_ACCESS_KEY_ID and its kin."""
        if self.address.startswith("s3://"):
            endpoint = self.endpoint or f"https://s3.{self.region}.amazonaws.com"
            base = f"{endpoint.rstrip('/')}/{self.address.removeprefix('s3://').strip('/')}"
        elif self.address.startswith(("http://", "https://")):
            base = self.address.rstrip("/")
        elif Path(self.address).is_dir():
            return FolderStore(Path(self.address))
        else:
            raise BadSettings(f"{self.address!r} is no store: give https://…, s3://bucket, or the folder of a mirror.")
        client = PoliteClient(
            rate=self.rate,
            attempts=self.attempts,
            back_off=self.back_off,
            timeout=self.timeout,
            contact=self.contact,
            sign=Signer.from_environment(os.environ, self.region),
        )
        return BucketStore(base, client)


class BucketStore:
    """A bucket over HTTP: GET of an object, and S3's ListObjectsV2."""

    def __init__(self, base: str, client: PoliteClient) -> None:
        self.base, self.client = base, client

    def get(self, key: str, md5: str = "") -> bytes | None:
        wrong = ""
        for _ in range(3):
            answer = self.client.get(f"{self.base}/{quote(key)}")
            if answer is None:
                return None
            # The ETag of an object that was not uploaded in parts is its MD5.
            expected = md5 or (answer.etag if len(answer.etag) == 32 else "")
            wrong = md5_of(answer.content)
            if not expected or wrong == expected.lower():
                return answer.content
        raise Unreachable(f"{key}: MD5 {wrong} instead of {expected}, three times. Run again later, or report it to the store.")

    def list(self, prefix: str, delimiter: str = "") -> Iterator[Listed]:
        parameters = {"list-type": "2", "prefix": prefix, **({"delimiter": delimiter} if delimiter else {})}
        while True:
            answer = self.client.get(f"{self.base}/", parameters)
            if answer is None:
                raise Unreachable(f"{self.base}: no such bucket. Check the address.")
            try:
                root = etree.fromstring(answer.content, _PARSER)
            except etree.XMLSyntaxError as error:
                raise BadInput(f"{self.base}: the listing of {prefix!r} is no XML ({error}).") from error
            for entry in root.iterchildren("{*}Contents", "{*}CommonPrefixes"):
                key = entry.findtext("{*}Key") or entry.findtext("{*}Prefix") or ""
                yield Listed(key, int(entry.findtext("{*}Size") or 0), entry.findtext("{*}LastModified") or "")
            token = root.findtext("{*}NextContinuationToken")
            if not token:
                return
            parameters["continuation-token"] = token

    @property
    def traffic(self) -> tuple[int, int]:
        return self.client.requests, self.client.bytes


class FolderStore:
    """A local mirror of the bucket, or of a part of it."""

    def __init__(self, root: Path) -> None:
        self.root, self.requests, self.bytes = root.resolve(), 0, 0

    def get(self, key: str, md5: str = "") -> bytes | None:
        path = (self.root / key).resolve()
        self.requests += 1
        if not path.is_relative_to(self.root) or not path.is_file():
            return None
        content = path.read_bytes()
        self.bytes += len(content)
        if md5 and md5_of(content) != md5.lower():
            raise Unreachable(f"{path}: MD5 {md5_of(content)} instead of {md5}. Copy the file again.")
        return content

    def list(self, prefix: str, delimiter: str = "") -> Iterator[Listed]:
        self.requests += 1
        folder, _, start = prefix.rpartition("/")
        if not (base := (self.root / folder).resolve()).is_relative_to(self.root) or not base.is_dir():
            return
        for path in sorted(p for p in base.iterdir() if p.name.startswith(start)):
            key = path.relative_to(self.root).as_posix()
            if path.is_file():
                yield Listed(key, path.stat().st_size)
            elif delimiter:
                yield Listed(f"{key}/")
            else:
                yield from self.list(f"{key}/")

    @property
    def traffic(self) -> tuple[int, int]:
        return self.requests, self.bytes
