"""Traces and metrics for an OpenTelemetry collector, over OTLP and HTTP, beside Prometheus. By the official packages.

A request is a span (`opentelemetry-instrumentation-fastapi`, which continues a `traceparent`), the answer to a question a span in
it with one event for each tool that ran. No question, answer, picture, name or key is ever part of either.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

from pathasst.core.errors import MissingPackage

if TYPE_CHECKING:
    from fastapi import FastAPI

    from pathasst.assistant.answer import Answer
    from pathasst.serve.service import Service

UNTRACED = "health,ready,metrics,assets/,static/,svelte/,theme.css,favicon.ico,slide-tiles/,gradio_api/heartbeat"
"""Paths that say nothing: checks, and the files of the page."""


def export(app: FastAPI, service: Service, endpoint: str, export_seconds: float = 15.0) -> None:
    """Send the traces and metrics of a server to `endpoint`, such as http://collector:4318, until the service closes.

    A collector that does not answer costs the telemetry, no request. Raises MissingPackage without the extra `otel`.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise MissingPackage(f"OpenTelemetry needs the extra `otel`: pip install 'pathasst[otel]' ({error})") from None
    from pathasst import __version__

    base = endpoint.rstrip("/")
    instance = {"service.instance.id": str(uuid.uuid4())}  # workers are told apart
    resource = Resource.create({"service.name": "pathasst", "service.version": __version__, **instance})
    traces = TracerProvider(resource=resource, shutdown_on_exit=False)
    traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{base}/v1/traces", timeout=5)))
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{base}/v1/metrics", timeout=5), export_seconds * 1000)
    meters = MeterProvider([reader], resource, shutdown_on_exit=False)
    FastAPIInstrumentor.instrument_app(
        app, tracer_provider=traces, meter_provider=meters, excluded_urls=UNTRACED, exclude_spans=["receive", "send"]
    )
    service.on_answer.append(AnswerTelemetry(traces, meters, service))
    service.at_close.callback(meters.shutdown)
    service.at_close.callback(traces.shutdown)


class AnswerTelemetry:
    """Called with each answer and the seconds that it took, where the request's span is the current one."""

    def __init__(self, traces: object, meters: object, service: Service) -> None:
        from opentelemetry.metrics import CallbackOptions, Observation

        self._tracer = traces.get_tracer("pathasst")  # type: ignore[attr-defined]
        meter = meters.get_meter("pathasst")  # type: ignore[attr-defined]
        self._answers = meter.create_counter("pathasst.answers", description="Answered questions, by how they ended")
        self._seconds = meter.create_histogram("pathasst.answer.duration", "s", "Time of an answer")
        self._tools = meter.create_counter("pathasst.tool.calls", description="Tool calls, by outcome")

        def jobs(options: CallbackOptions) -> list[Observation]:
            return [
                Observation(service.queue.waiting, {"state": "waiting"}),
                Observation(service.queue.running, {"state": "running"}),
            ]

        meter.create_observable_gauge("pathasst.jobs", [jobs], description="Requests in the queue and worked on")

    def __call__(self, answer: Answer, seconds: float) -> None:
        ended, end = {"stopped": answer.stopped or "finished"}, time.time_ns()
        span = self._tracer.start_span("pathasst.answer", start_time=end - int(seconds * 1e9))
        span.set_attributes({**ended, "brain": answer.brain, "struck": len(answer.struck)})
        for result in answer.results:
            name = result.name if result.version or not result.error else "unknown"  # a name that the model made up
            labels = {"tool": name, "outcome": "error" if result.error else "ok"}
            self._tools.add(1, labels)
            span.add_event("tool", {**labels, "version": result.version, "seconds": result.seconds})
        span.end(end)
        self._answers.add(1, ended)
        self._seconds.record(seconds, ended)
