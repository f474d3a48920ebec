"""What goes wrong, in the shape OpenAI's clients read: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import math
from concurrent.futures import CancelledError
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from pathasst.core.errors import BadDataset, BadInput, BadSettings, MissingPackage, MissingWeights, PathAsstError, Unreachable
from pathasst.serve.jobs import Busy, Closing
from pathasst.serve.markup.words import without_addresses
from pathasst.serve.structured import NotFillable

if TYPE_CHECKING:
    from collections.abc import Mapping


class ErrorBody(BaseModel):
    """One error."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class Error(BaseModel):
    """Every error answer of the API."""

    error: ErrorBody


class ApiError(PathAsstError):
    """A refusal with a status and a code of OpenAI's own."""

    def __init__(self, message: str, status: int = 400, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param


STATUS: Mapping[type[Exception], tuple[int, str]] = {
    Busy: (429, "rate_limit_error"),
    Closing: (503, "server_error"),
    BadInput: (400, "invalid_request_error"),
    BadSettings: (400, "invalid_request_error"),
    BadDataset: (503, "server_error"),
    MissingWeights: (503, "server_error"),
    MissingPackage: (503, "server_error"),
    Unreachable: (502, "server_error"),
    CancelledError: (499, "invalid_request_error"),
}
_SHAPE = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": HTTPStatus(status).phrase, **_SHAPE} for status in (400, 401, 403, 408, 413, 429, 500, 502, 503)
}
"""What every route may answer besides its own. By reference: a model would be compiled again for each status of each route."""
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Error, "description": "Not Found"}}


def body(message: str, kind: str = "invalid_request_error", param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The JSON of an error."""
    return Error(error=ErrorBody(message=message, type=kind, param=param, code=code)).model_dump()


def of(error: Exception) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, JSON and headers for an exception of ours. What was not foreseen is not told to the client."""
    if isinstance(error, ApiError):
        return error.status, body(str(error), param=error.param, code=error.code), {}
    if isinstance(error, NotFillable):
        return 400, body(str(error), param="response_format", code="schema_not_fillable"), {}
    status, kind = next((v for k, v in STATUS.items() if isinstance(error, k)), (500, "server_error"))
    headers = {"Retry-After": str(math.ceil(error.retry_after))} if isinstance(error, Busy) else {}
    expected = isinstance(error, PathAsstError | CancelledError)
    words = without_addresses(str(error)) if isinstance(error, Unreachable) else str(error)
    return status, body(words or "cancelled" if expected else "an unexpected error; see the server's log.", kind), headers


def install(app: FastAPI) -> None:
    """Let the application answer every error in this shape."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"] if p != "body")
        return JSONResponse(body(f"{where or 'body'}: {first['msg']}", param=where or None), 400)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        kind = "invalid_request_error" if error.status_code < 500 else "server_error"
        return JSONResponse(body(str(error.detail), kind), error.status_code, dict(error.headers or {}))

    @app.exception_handler(PathAsstError)
    async def ours(request: Request, error: PathAsstError) -> JSONResponse:
        status, content, headers = of(error)
        return JSONResponse(content, status, headers)

    @app.exception_handler(CancelledError)
    async def left(request: Request, error: CancelledError) -> JSONResponse:
        return JSONResponse(of(error)[1], 499)

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse(of(error)[1], 500)
