"""A small search server over one index, for this machine: `pathasst papers serve`. Knows the index, no assistant.

The requests and answers of `/v1/papers/search` are those of the assistant's server (`pathasst serve`), which has keys and limits
for others; this one has neither, and listens on loopback alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pathasst.core.errors import BadSettings, MissingWeights, PathAsstError
from pathasst.core.records import to_row
from pathasst.papers.index import PaperIndex, Rerank

if TYPE_CHECKING:
    from fastapi import FastAPI

HOSTS = ["127.0.0.1", "localhost", "[::1]"]  # any other Host header is a web page reaching for this machine
MAX_BODY = 256 << 10  # bytes; 10,000 characters of any script and the filters fit


class SearchRequest(BaseModel):
    """A search of the literature."""

    model_config = ConfigDict(extra="forbid")

    query: Annotated[str, Field(max_length=20_000)]
    k: Annotated[int, Field(ge=1, le=100)] = 10
    mode: Literal["hybrid", "words", "vectors"] = "hybrid"
    since: int | None = None
    until: int | None = None
    journals: Annotated[list[str], Field(max_length=50)] = []
    types: Annotated[list[str], Field(max_length=50)] = []
    retracted: bool = True


def create_app(index: PaperIndex, rerank: Rerank | None = None) -> FastAPI:
    """The application: search, one abstract by PMID, what the index holds."""
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    app = FastAPI(title="pathasst papers", description=index.describe())
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*HOSTS, "testserver"])
    app.add_middleware(_LimitBody)

    @app.exception_handler(PathAsstError)
    def explain(request: Request, error: PathAsstError) -> JSONResponse:
        status = 400 if isinstance(error, BadSettings) else 503 if isinstance(error, MissingWeights) else 500
        return JSONResponse({"error": {"message": str(error)}}, status)

    @app.post("/v1/papers/search")
    def search(body: SearchRequest) -> dict[str, Any]:
        """The best abstracts that are about the query, best first, each with PMID, title, year, and its best sentences.

        `message` says when there are none, and which PMIDs of the query are not there.
        """
        filters = body.model_dump(include={"since", "until", "journals", "types", "retracted"}, exclude_none=True)
        result = index.find(body.query, body.k, body.mode, filters, rerank)
        return {"object": "list", "query": body.query, "message": result.message, "data": [to_row(hit) for hit in result.hits]}

    @app.get("/v1/papers/{pmid}")
    def abstract(pmid: str) -> dict[str, Any]:
        """One abstract with all its fields."""
        entry = index.get(pmid)
        if entry is None:
            raise HTTPException(404, f"no abstract has the id {pmid[:40]!r}.")
        return to_row(entry)

    @app.get("/health")
    def health() -> dict[str, Any]:
        """What is served."""
        return {"status": "ok", **index.info()}

    return app


class _LimitBody:
    """Refuses bodies of more than MAX_BODY bytes, told or streamed."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.exceptions import HTTPException
        from starlette.responses import JSONResponse

        total = 0

        async def counted() -> Any:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > MAX_BODY:
                raise HTTPException(413, f"a request may have {MAX_BODY} bytes.")
            return message

        headers = dict(scope.get("headers", []))
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > MAX_BODY:
            await JSONResponse({"detail": f"a request may have {MAX_BODY} bytes."}, 413)(scope, receive, send)
            return
        await self.app(scope, counted if scope["type"] == "http" else receive, send)


def serve(index: PaperIndex, port: int = 8010, rerank: Rerank | None = None) -> None:
    """Serve until Ctrl-C, on this machine alone. The query encoder is loaded before the first question."""
    import uvicorn

    index.search("warm up", 1)
    uvicorn.run(
        create_app(index, rerank), host="127.0.0.1", port=port, log_level="warning", access_log=False, server_header=False
    )
