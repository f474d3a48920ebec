"""Schemathesis asks the real server what its OpenAPI schema allows, and what it does not: no 5xx, no answer the schema lacks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from server_parts import Running, running

from pathasst.tools.protocol import Registry

EXAMPLES = 12
OPERATIONS = [
    "POST /v1/chat/completions",
    "POST /v1/responses",
    "GET /v1/responses/{id}",
    "DELETE /v1/responses/{id}",
    "GET /v1/audit",
    "GET /v1/history",
    "DELETE /v1/history",
    "DELETE /v1/history/{id}",
    "POST /v1/papers/search",
    "POST /v1/tools/{name}/run",
    "POST /v1/files",
    "GET /v1/files",
    "GET /v1/files/{id}",
    "GET /v1/files/{id}/content",
    "DELETE /v1/files/{id}",
    "GET /v1/models",
    "GET /v1/models/{name}",
    "GET /v1/tools",
    "GET /health",
    "GET /ready",
    "GET /metrics",
]
MORE_THAN_SHAPE = {"POST /v1/chat/completions", "POST /v1/responses", "POST /v1/files"}
"""Refuse what no schema can say: a conversation that ends with the assistant's words, bytes that are no picture."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    from assistant_parts import HITS, CountDark, Shelf

    registry = Registry()
    for tool in (CountDark(), Shelf(HITS)):
        registry.add(tool)
    with running(tmp_path_factory.mktemp("served"), registry) as server:
        yield server


@pytest.fixture(scope="module")
def operations(served: Running) -> dict[str, object]:
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    return {operation.label: operation for result in schema.get_all_operations() if (operation := result.ok())}


def test_every_operation_is_asked(operations: dict[str, object]) -> None:
    assert set(operations) == {*OPERATIONS, "POST /v1/embeddings"}  # the last needs PathCLIP's weights: test_api_embedded


CASES = [(label, GenerationMode.POSITIVE) for label in OPERATIONS] + [
    (label, GenerationMode.NEGATIVE) for label in OPERATIONS if "{id}" in label or label.startswith("POST")
]


@pytest.mark.parametrize(("label", "mode"), CASES, ids=lambda value: str(value).removeprefix("GenerationMode."))
def test_the_server_keeps_to_its_schema(operations: dict[str, object], label: str, mode: GenerationMode) -> None:
    operation = operations[label]
    asked = 0

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))  # type: ignore[attr-defined]
    def ask(case: schemathesis.Case) -> None:
        nonlocal asked
        asked += 1
        case.call_and_validate(timeout=30, excluded_checks=[positive_data_acceptance] if label in MORE_THAN_SHAPE else [])

    ask()
    assert asked
