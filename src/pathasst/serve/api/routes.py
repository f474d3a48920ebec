"""The other routes: models, embeddings, tools by hand, papers, files, health and metrics."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, File, Form, Path, Query, Request, Response, UploadFile
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from pathasst.assistant.answer import annotation_json
from pathasst.core.errors import BadInput
from pathasst.core.records import NOTICE, ToolCall, to_row
from pathasst.serve.api.chat import outcome
from pathasst.serve.api.decoding import OURS
from pathasst.serve.api.errors import NOT_FOUND, ApiError
from pathasst.serve.api.schemas import (
    Embedding,
    EmbeddingRequest,
    Embeddings,
    EmbeddingUsage,
    Model,
    Models,
    PapersRequest,
    ToolRun,
)
from pathasst.serve.jobs import Closing
from pathasst.serve.service import Service
from pathasst.serve.uploads import Upload
from pathasst.tools.protocol import Tool

T = TypeVar("T")
router = APIRouter()
_PICTURE = re.compile(r"data:|file-[0-9a-f]{32}$", re.IGNORECASE)
FileId = Annotated[str, Path(max_length=100, pattern=r"^file-[0-9a-f]{32}$")]
TalkId = Annotated[str, Path(max_length=100, pattern=r"^[0-9a-f]{32}$")]


@router.get("/v1/models", tags=["models"])
def models(request: Request) -> Models:
    """The brain that answers, and PathCLIP."""
    service: Service = request.app.state.service
    return Models(data=[Model(id="pathasst"), Model(id=service.brain_name), Model(id="pathclip")])


@router.get("/v1/models/{name:path}", tags=["models"], responses=NOT_FOUND)
def model(name: str, request: Request) -> Model:
    """One of them."""
    entry = next((m for m in models(request).data if m.id == name), None)
    if entry is None:
        raise ApiError(f"no model is called {name[:100]!r}.", 404, "model_not_found", "model")
    return entry


@router.post("/v1/embeddings", tags=["models"])
async def embeddings(body: EmbeddingRequest, request: Request) -> Embeddings:
    """PathCLIP's vectors of texts, or of pictures: both lie in one space, and their dot product is their similarity."""
    service: Service = request.app.state.service
    user: str = request.state.user
    if body.model not in ("pathclip", OURS):
        raise ApiError(
            f"the model {body.model[:100]!r} makes no embeddings here; pathclip does.", 404, "model_not_found", "model"
        )
    inputs = [body.input] if isinstance(body.input, str) else body.input
    pictures = [text for text in inputs if _PICTURE.match(text)]
    if pictures and len(pictures) < len(inputs):
        raise BadInput("send texts or pictures, not both in one request.")
    checked = await run_in_threadpool(lambda: [service.input_images.picture(p, user).image for p in pictures])
    vectors = await outcome(request, service.submit_embedding([] if pictures else inputs, checked, user))
    if body.dimensions not in (None, vectors.shape[1]):
        raise ApiError(f"pathclip's vectors have {vectors.shape[1]} dimensions; they are not shortened.", param="dimensions")
    plain = body.encoding_format != "base64"
    data = [
        Embedding(index=n, embedding=v.tolist() if plain else base64.b64encode(v.astype("<f4").tobytes()).decode())
        for n, v in enumerate(vectors)
    ]
    tokens = 0 if pictures else sum(-(-len(text) // 4) for text in inputs)
    return Embeddings(data=data, model="pathclip", usage=EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens))


@router.get("/v1/tools", tags=["tools"])
def tools(request: Request) -> dict[str, Any]:
    """The tools: what each is for, its arguments as JSON schema, its card, and whether its files are here."""
    service: Service = request.app.state.service
    return {"object": "list", "notice": NOTICE, "data": [_tool(tool) for tool in service.registry.tools.values()]}


@router.post("/v1/tools/{name}/run", tags=["tools"], responses=NOT_FOUND)
async def run_tool(name: str, body: ToolRun, request: Request) -> dict[str, Any]:
    """Run one tool by hand. Pictures that it makes are stored as files of the user's."""
    service: Service = request.app.state.service
    user: str = request.state.user
    tool = service.registry.tools.get(name)
    if tool is None:
        raise HTTPException(404, f"no tool is called {name[:100]!r}; GET /v1/tools lists them.")
    service.uploads.require_room(user)
    image = None
    if body.image is not None and tool.needs_image:
        image = await run_in_threadpool(service.input_images.picture, body.image, user)
        image = replace(image, um_per_px=body.um_per_px or image.um_per_px)
    result = await outcome(request, service.submit_tool(ToolCall(name=name, arguments=body.arguments), image, user))
    if result.error:
        raise BadInput(result.error)
    return {
        "tool": result.name,
        "version": result.version,
        "seconds": round(result.seconds, 3),
        "text": result.text,
        "warnings": result.warnings,
        "numbers": result.numbers,
        "annotations": [annotation_json(a) for a in result.annotations],
        "pictures": [
            {"name": p.name, "synthetic": p.synthetic, "file_id": service.store_picture(user, f"{p.name}.png", p.image)}
            for p in result.pictures
        ],
        "hits": [to_row(hit) for hit in result.hits],
        "notice": result.notice,
    }


@router.post("/v1/papers/search", tags=["papers"])
async def search_papers(body: PapersRequest, request: Request) -> dict[str, Any]:
    """Abstracts that are about a query, best first, each with its best sentences; `message` says when there are none."""
    service: Service = request.app.state.service
    narrowed = body.model_dump(include={"since", "until", "journals", "types"}, exclude_none=True)
    job = service.submit_search(body.query, body.k, body.mode, narrowed, request.state.user)
    results = await outcome(request, job)
    return {"object": "list", "query": body.query, "message": results.message, "data": [to_row(hit) for hit in results.hits]}


@router.post("/v1/files", tags=["files"])
async def upload(
    request: Request,
    file: Annotated[UploadFile, File(description="A picture.")],
    um_per_px: Annotated[float | None, Form(gt=0, le=1000, description="Its micrometres per pixel.")] = None,
) -> dict[str, Any]:
    """Store a picture for later requests; it is the user's own, written anew from its pixels, and deleted after a set time."""
    service: Service = request.app.state.service
    data = await file.read(service.settings.serve.picture_bytes + 1)
    return _file(await outcome(request, service.submit_upload(file.filename or "file", data, request.state.user, um_per_px)))


@router.get("/v1/files", tags=["files"])
def files(request: Request) -> dict[str, Any]:
    """The user's files."""
    service: Service = request.app.state.service
    return {"object": "list", "has_more": False, "data": [_file(u) for u in service.uploads.list(request.state.user)]}


@router.get("/v1/files/{id}", tags=["files"], responses=NOT_FOUND)
def file(id: FileId, request: Request) -> dict[str, Any]:
    """One of them."""
    service: Service = request.app.state.service
    return _file(_or_not_found(lambda: service.uploads.get(request.state.user, id)))


@router.get("/v1/files/{id}/content", tags=["files"], responses={**NOT_FOUND, 200: {"content": {"image/png": {}}}})
def content(id: FileId, request: Request) -> Response:
    """Its bytes, to be saved rather than shown."""
    service: Service = request.app.state.service
    data = _or_not_found(lambda: service.uploads.path(request.state.user, id).read_bytes())
    return Response(data, media_type="image/png", headers={"Content-Disposition": f'attachment; filename="{id}.png"'})


@router.delete("/v1/files/{id}", tags=["files"], responses=NOT_FOUND)
def delete(id: FileId, request: Request) -> dict[str, Any]:
    """Delete it now."""
    service: Service = request.app.state.service
    _or_not_found(lambda: service.uploads.delete(request.state.user, id))
    return {"id": id, "object": "file", "deleted": True}


@router.get("/health", tags=["server"])
def health() -> dict[str, str]:
    """Whether the process lives."""
    return {"status": "ok"}


@router.get("/ready", tags=["server"])
def ready(request: Request) -> dict[str, str]:
    """Whether it answers at once; 503 while models are loading, when questions wait, and while it shuts down."""
    service: Service = request.app.state.service
    if service.closing:
        raise Closing("the service is shutting down.")
    if service.loading:
        raise ApiError("the models are loading; questions wait for them.", 503, "loading")
    return {"status": "ready"}


@router.get("/metrics", tags=["server"], response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(request: Request) -> Response:
    """Counts and times for Prometheus."""
    return Response(request.app.state.service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/v1/audit", tags=["server"])
def audit(request: Request, last: Annotated[int, Query(ge=1, le=1000)] = 100) -> dict[str, Any]:
    """The last lines of the audit log, newest last; for admins."""
    service: Service = request.app.state.service
    return {"object": "list", "data": service.audit.last(last), "lost": service.audit.failures}


@router.get("/v1/history", tags=["files"])
def history(request: Request) -> dict[str, Any]:
    """The user's conversations of the page that the server keeps on disk, the latest first; none where it keeps none."""
    store = request.app.state.service.history
    talks = store.talks(request.state.user) if store else []
    return {"object": "list", "data": [{"id": t.id, "title": t.title, "updated_at": int(t.updated)} for t in talks]}


@router.delete("/v1/history/{id}", tags=["files"], responses=NOT_FOUND)
def forget(id: TalkId, request: Request) -> dict[str, Any]:
    """Delete one of them now."""
    store = request.app.state.service.history
    if store is None or not store.delete(request.state.user, id):
        raise ApiError(f"there is no conversation {id!r}; it may have expired.", 404)
    return {"id": id, "object": "conversation", "deleted": True}


@router.delete("/v1/history", tags=["files"])
def forget_all(request: Request) -> dict[str, Any]:
    """Delete all of them now."""
    store = request.app.state.service.history
    return {"object": "list", "deleted": store.delete(request.state.user) if store else 0}


METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]


@router.api_route("/v1/{path:path}", methods=METHODS, include_in_schema=False)
def unknown(path: str, request: Request) -> None:
    """Whatever else; behind it the page would answer in its own shape."""
    raise HTTPException(404, f"there is no {request.method} /v1/{path[:100]}; see /docs.")


@router.api_route("/chat/completions", methods=METHODS, include_in_schema=False)
@router.api_route("/embeddings", methods=METHODS, include_in_schema=False)
@router.api_route("/models", methods=METHODS, include_in_schema=False)
def without_v1(request: Request) -> None:
    """A client whose base URL lacks /v1."""
    raise HTTPException(404, f"the API lies below /v1: the base URL ends with /v1, and the path is /v1{request.url.path}.")


def _tool(tool: Tool[Any]) -> dict[str, Any]:
    spec, card = tool.spec(), tool.card
    return {
        "name": spec.name,
        "description": spec.description,
        "parameters": spec.parameters,
        "needs_image": spec.needs_image,
        "available": not tool.missing(),
        "expects": card.expects,
        "scores": card.scores,
        "validated": card.validated,
        "limits": card.limits,
        "licence": card.licence,
    }


def _file(upload: Upload) -> dict[str, Any]:
    return {
        "id": upload.id,
        "object": "file",
        "bytes": upload.bytes,
        "created_at": int(upload.created),
        "expires_at": int(upload.expires),
        "filename": upload.name,
        "purpose": "vision",
        "um_per_px": upload.um_per_px,
        "status": "processed",
    }


def _or_not_found(look: Callable[[], T]) -> T:
    try:
        return look()
    except (BadInput, OSError) as error:
        raise HTTPException(404, str(error)) from error
