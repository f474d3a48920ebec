"""Counts and times of the service for Prometheus. Knows answers and tool results; serves nothing itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from pathasst.assistant.answer import Answer
    from pathasst.core.records import ToolResult
    from pathasst.serve.service import Service

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """One set of metrics a service, in a registry of its own."""

    def __init__(self, service: Service) -> None:
        own = self.registry = CollectorRegistry()
        self.requests = Counter("pathasst_requests", "HTTP requests", ["route", "status"], registry=own)
        self.request_seconds = Histogram(
            "pathasst_request_seconds", "Time of a request", ["route"], buckets=SECONDS, registry=own
        )
        self.answers = Counter("pathasst_answers", "Answered questions, by how they ended", ["stopped"], registry=own)
        self.answer_seconds = Histogram("pathasst_answer_seconds", "Time of an answer", buckets=SECONDS, registry=own)
        self.struck = Counter("pathasst_struck_references", "References that no search had retrieved", registry=own)
        self.tools = Counter("pathasst_tool_calls", "Tool calls", ["tool", "outcome"], registry=own)
        self.tool_seconds = Histogram("pathasst_tool_seconds", "Time of a tool call", ["tool"], buckets=SECONDS, registry=own)
        self.batches = Histogram("pathasst_batch_size", "Replies generated together", buckets=(1, 2, 4, 8, 16), registry=own)
        Gauge("pathasst_jobs_waiting", "Requests in the queue", registry=own).set_function(lambda: service.queue.waiting)
        Gauge("pathasst_jobs_running", "Requests worked on", registry=own).set_function(lambda: service.queue.running)

    def batch(self, size: int) -> None:
        self.batches.observe(size)

    def answer(self, answer: Answer) -> None:
        self.answers.labels(answer.stopped or "finished").inc()
        self.answer_seconds.observe(answer.seconds)
        self.struck.inc(len(answer.struck))

    def tool(self, result: ToolResult) -> None:
        """Count a call; a name that the model made up is not a label."""
        name = result.name if result.version or not result.error else "unknown"
        self.tools.labels(name, "error" if result.error else "ok").inc()
        self.tool_seconds.labels(name).observe(result.seconds)

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)
