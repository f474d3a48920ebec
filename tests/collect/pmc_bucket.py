"""A bucket in the layout of `pmc-oa-opendata`, a real S3-compatible server for it, and a proxy that spoils answers on order."""

import csv
import gzip
import hashlib
import io
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from collect_samples import LICENCE, article_xml, fig, picture

BUCKET = "pmc-oa-opendata"
DAY = "inventory-reports/pmc-oa-opendata/metadata/2026-09-02T01-00Z"
STAINED = "Hematoxylin and eosin staining of the tumor."
CHART = "Kaplan-Meier curves of overall survival."


def article(
    objects: dict[str, bytes], id_: str, captions=(STAINED, CHART), *, code="CC BY", retracted=False, media=True, extra=LICENCE
) -> None:
    """Put one version of an article into the objects: metadata, XML, a picture and a small preview for each figure."""
    figures = "".join(fig(f"f{n}", text, href=f"a-g{n}.jpg", label=f"Figure {n}") for n, text in enumerate(captions, 1))
    xml = article_xml(figures, pmcid=id_.split(".")[0], extra=extra)
    objects[f"{id_}/{id_}.xml"] = xml
    names = []
    for n in range(1, len(captions) + 1):
        for suffix, size in ((".jpg", 60), (".gif", 10)):
            key = f"{id_}/a-g{n}{suffix}"
            content = picture((size, size), "JPEG" if suffix == ".jpg" else "GIF", seed=n)
            names.append(f"s3://{BUCKET}/{key}?md5={hashlib.md5(content).hexdigest()}")
            if media:
                objects[key] = content
    number, version = id_.removeprefix("PMC").split(".")
    objects[f"metadata/{id_}.json"] = json.dumps(
        {
            "pmcid": f"PMC{number}",
            "version": int(version),
            "pmid": 9,
            "doi": "10.1/x",
            "is_retracted": retracted,
            "license_code": code,
            "xml_url": f"s3://{BUCKET}/{id_}/{id_}.xml?md5={hashlib.md5(xml).hexdigest()}",
            "media_urls": names,
        }
    ).encode()


def add_inventory(objects: dict[str, bytes], changed: dict[str, str]) -> None:
    """Two gzip CSV shards and their manifest; `changed`: article id → day of its last change."""
    rows = [
        (BUCKET, k, changed.get(k[9:-5], "2026-01-01") + "T00:00:00.000Z", "x")
        for k in sorted(objects)
        if k.startswith("metadata/")
    ]
    files = []
    for n, part in enumerate((rows[::2], rows[1::2])):
        text = io.StringIO()
        csv.writer(text, quoting=csv.QUOTE_ALL).writerows(part)
        content = gzip.compress(text.getvalue().encode(), mtime=0)
        objects[f"inventory-reports/{BUCKET}/metadata/data/{n}.csv.gz"] = content
        files.append(
            {"key": f"inventory-reports/{BUCKET}/metadata/data/{n}.csv.gz", "MD5checksum": hashlib.md5(content).hexdigest()}
        )
    manifest = {"fileFormat": "CSV", "fileSchema": "Bucket, Key, LastModifiedDate, ETag", "files": files}
    objects[f"{DAY}/manifest.json"] = json.dumps(manifest).encode()
    objects[f"{DAY.replace('09-02', '09-01')}/manifest.json"] = b"{}"


def sample_bucket() -> dict[str, bytes]:
    """Key → bytes of a bucket with one article of every kind."""
    objects: dict[str, bytes] = {}
    article(objects, "PMC1.1")
    article(objects, "PMC2.1")
    article(objects, "PMC2.2", (STAINED, STAINED))
    article(objects, "PMC3.1", retracted=True)
    article(objects, "PMC4.1", code="CC BY-NC", extra="")
    article(objects, "PMC5.1")
    objects["metadata/PMC5.1.json"] = b'{"pmcid": "PMC5", "xml_url": '
    article(objects, "PMC6.1", media=False)
    article(objects, "PMC7.1")
    objects["metadata/PMC7.1.json"] = b'["not", "an object"]'
    add_inventory(objects, {"PMC1.1": "2026-08-30", "PMC2.2": "2026-09-01"})
    return objects


@contextmanager
def s3_server(objects: dict[str, bytes]):
    """moto's S3 server on loopback, filled; gives the bucket's address."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        client = boto3.client(
            "s3", endpoint_url=f"http://{host}:{port}", aws_access_key_id="k", aws_secret_access_key="s", region_name="us-east-1"
        )
        client.create_bucket(Bucket=BUCKET, ACL="public-read")
        for key, content in objects.items():
            client.put_object(Bucket=BUCKET, Key=key, Body=content, ACL="public-read")
        yield f"http://{host}:{port}/{BUCKET}"
    finally:
        server.stop()


class Faults:
    """What to spoil: (text in the path, kind, how many times). Counts every request by path."""

    def __init__(self, *orders: tuple[str, str, int]) -> None:
        self.orders = [list(o) for o in orders]
        self.lock = threading.Lock()
        self.seen: list[tuple[float, str, str]] = []  # time, path, fault

    def next(self, path: str) -> str:
        with self.lock:
            fault = ""
            for order in self.orders:
                if order[0] in path and order[2] > 0:
                    order[2] -= 1
                    fault = order[1]
                    break
            self.seen.append((time.monotonic(), path, fault))
            return fault


@contextmanager
def proxy(target: str, faults: Faults):
    """A real HTTP proxy in front of `target` (an address that ends with the bucket) that injects faults."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            fault = faults.next(self.path)
            if fault == "503" or fault.startswith("429"):
                self.send_response(int(fault[:3]))
                if fault.startswith("429"):
                    self.send_header("Retry-After", fault[4:])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            try:
                with urllib.request.urlopen(target + self.path) as answer:
                    status, headers, body = answer.status, answer.headers, answer.read()
            except urllib.error.HTTPError as error:
                status, headers, body = error.code, error.headers, error.read()
            if fault == "wrong":
                body = body[:-1] + bytes([body[-1] ^ 1])
            self.send_response(status)
            if "ETag" in headers:
                self.send_header("ETag", headers["ETag"])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if fault == "cut":
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
            elif fault == "slow":
                self.wfile.write(body[:1])
                self.wfile.flush()
                time.sleep(1.5)
            else:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a client that hangs up on a slow answer is part of the test
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
