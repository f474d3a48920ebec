"""Traces and metrics reach a collector over OTLP; what people ask and who they are does not."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import numpy as np
import pytest
from assistant_parts import CountDark
from server_parts import data_url, running

from pathasst.imaging.pictures import encode_png
from pathasst.tools.protocol import Registry

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra otel is not installed")
pytest.importorskip("opentelemetry.instrumentation.fastapi", reason="the extra otel is not installed")
TRACE = "0af7651916cd43dd8448eb211c80319c"


class Collector(BaseHTTPRequestHandler):
    """Takes what an OpenTelemetry collector takes on port 4318."""

    got: ClassVar[dict[str, list[bytes]]] = {}

    def log_message(self, *_: object) -> None: ...

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.setdefault(self.path, []).append(
            gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        )
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def collector() -> Iterator[str]:
    Collector.got = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def ask(v1: str, spots: np.ndarray, **headers: str) -> None:
    content = [{"type": "text", "text": "count them for Mrs. Zebra"}]
    content.append({"type": "image_url", "image_url": {"url": data_url(encode_png(spots))}})  # type: ignore[dict-item]
    body = {"messages": [{"role": "user", "content": content}]}
    assert httpx.post(f"{v1}/chat/completions", json=body, headers=headers, timeout=60).status_code == 200


def registry() -> Registry:
    tools = Registry()
    tools.add(CountDark())
    return tools


def test_a_question_is_a_trace_without_its_words(tmp_path: Path, collector: str, spots: np.ndarray) -> None:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    with running(tmp_path, registry(), otlp=collector) as server:
        ask(server.v1, spots, traceparent=f"00-{TRACE}-b7ad6b7169203331-01")
        httpx.get(f"{server.url}/health")
        server.service.close(1.0)  # sends what is left
    spans: dict[str, Any] = {}
    for body in Collector.got["/v1/traces"]:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            spans.update({s.name: s for scope in resource.scope_spans for s in scope.spans})
    request, answer = spans["POST /v1/chat/completions"], spans["pathasst.answer"]
    assert answer.trace_id == request.trace_id == bytes.fromhex(TRACE)  # the client's trace goes on
    assert answer.parent_span_id == request.span_id and len(spans) == 2
    (event,) = answer.events
    assert {a.key: a.value.string_value for a in event.attributes if a.key != "seconds"}["tool"] == "count_dark"
    names = {
        metric.name
        for body in Collector.got["/v1/metrics"]
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert {"pathasst.answers", "pathasst.answer.duration", "pathasst.tool.calls", "pathasst.jobs"} <= names
    assert any("http.server" in name for name in names)
    everything = b"".join(body for bodies in Collector.got.values() for body in bodies)
    assert b"Zebra" not in everything and b"dark spots" not in everything


def test_a_collector_that_is_away_costs_no_answer(tmp_path: Path, spots: np.ndarray) -> None:
    with running(tmp_path, registry(), otlp="http://127.0.0.1:9") as server:
        ask(server.v1, spots)
        assert "pathasst_answers_total" in httpx.get(f"{server.url}/metrics").text  # Prometheus is beside it
