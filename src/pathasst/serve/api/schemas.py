"""What requests and answers look like: OpenAI's chat API where it has a word for it, `pathasst` fields for the rest."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

Text = Annotated[str, Field(max_length=100_000)]
Scale = Annotated[float | None, Field(gt=0, le=1000, description="Micrometres per pixel of the picture, for the tools.")]


class Shape(BaseModel):
    """Base: names that we do not know are passed over, as OpenAI's clients send many."""

    model_config = ConfigDict(extra="ignore")


class TextPart(Shape):
    """Words."""

    type: Literal["text"]
    text: Text


class ImageUrl(Shape):
    """A picture as `data:image/…;base64,…`, the id of an uploaded file, or an address of a host that the server allows."""

    url: Annotated[str, Field(min_length=1, max_length=64 * 2**20)]
    um_per_px: Scale = None


class ImagePart(Shape):
    """A picture. Some clients send its address as plain text."""

    type: Literal["image_url"]
    image_url: ImageUrl

    @field_validator("image_url", mode="before")
    @classmethod
    def _address(cls, value: Any) -> Any:
        return {"url": value} if isinstance(value, str) else value


class FileId(Shape):
    """A file uploaded through /v1/files."""

    file_id: Annotated[str, Field(max_length=100)]
    um_per_px: Scale = None


class FilePart(Shape):
    """An uploaded picture."""

    type: Literal["file"]
    file: FileId


def _responses_part(value: Any) -> Any:
    """A part as clients of OpenAI's Responses API write it, in the form of chat completions."""
    if isinstance(value, str):
        return {"type": "text", "text": value}
    if not isinstance(value, dict):
        return value
    kind = value.get("type")
    if kind in ("input_text", "output_text"):
        return {**value, "type": "text"}
    if kind == "input_image" and value.get("image_url") is None and value.get("file_id") is not None:
        return {"type": "file", "file": {"file_id": value["file_id"]}}
    return {**value, "type": "image_url"} if kind == "input_image" else value


Part = Annotated[TextPart | ImagePart | FilePart, Field(discriminator="type"), BeforeValidator(_responses_part)]
Content = Annotated[
    Annotated[Text, Tag("text")] | Annotated[list[Part], Tag("parts")],
    Discriminator(lambda value: "parts" if isinstance(value, list) else "text"),
]
"""A message's content; told apart by shape, so that an error names the part that is wrong."""


class FunctionCall(Shape):
    """A function and its arguments as JSON text."""

    name: Annotated[str, Field(max_length=200)]
    arguments: Text = "{}"


class MessageToolCall(Shape):
    """A call that the assistant made."""

    id: Annotated[str, Field(max_length=200)] = ""
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(Shape):
    """One message."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    tool_calls: list[MessageToolCall] | None = None
    tool_call_id: Annotated[str, Field(max_length=200)] | None = None
    footer: Text = Field(default="", description="Of an answer of this server: the `footer` that it came with, sent back.")


class Function(Shape):
    """A function of the client's."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: Annotated[str, Field(max_length=4000)] = ""
    parameters: dict[str, Any] = Field(default_factory=lambda: {"type": "object", "properties": {}})


class ClientTool(Shape):
    """A tool that the client runs itself."""

    type: Literal["function"]
    function: Function


class FunctionName(Shape):
    """The name of one function."""

    name: Annotated[str, Field(max_length=200)]


class NamedTool(Shape):
    """The choice of one tool."""

    type: Literal["function"]
    function: FunctionName


class StreamOptions(Shape):
    """How a stream ends."""

    include_usage: bool = False


class Options(Shape):
    """What is this server's own."""

    tools: list[Annotated[str, Field(max_length=64)]] | None = Field(
        default=None, description="Names of the server's tools on offer; absent: all; empty: none."
    )
    footer: bool = Field(default=True, description="Whether the text ends with sources, what was run and the notices.")


class SchemaFormat(Shape):
    """A named JSON schema."""

    name: Annotated[str, Field(max_length=200)] = "reply"
    json_schema: dict[str, Any] = Field(alias="schema")


class ResponseFormat(Shape):
    """Plain text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaFormat | None = None

    @model_validator(mode="after")
    def _complete(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("type json_schema comes with json_schema: {name, schema}, and the others without.")
        return self

    @property
    def wanted_schema(self) -> dict[str, Any] | None:
        """The JSON schema that is asked for; an empty one for any JSON object, None for text."""
        if self.type == "text":
            return None
        return self.json_schema.json_schema if self.json_schema else {}


def _refuse(value: Any) -> Any:
    raise ValueError("not offered here; leave it out.")


def _unless(*neutral: Any) -> Any:
    """Lets through the values that change nothing."""
    return BeforeValidator(lambda value: value if value in neutral else _refuse(value))


Stop = Annotated[str, Field(min_length=1, max_length=200)]
Temperature = Annotated[float | None, Field(ge=0, le=2)]
Share = Annotated[float | None, Field(gt=0, le=1)]
Tokens = Annotated[int | None, Field(ge=1, le=1_000_000)]
Seed = Annotated[int | None, Field(ge=-(2**63), lt=2**63)]


class ChatRequest(Shape):
    """A question, and the conversation before it. What would change the answer and is not offered is refused."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [{"model": "pathasst", "messages": [{"role": "user", "content": "What does NILM stand for?"}]}]
        },
    )
    model: Annotated[str, Field(max_length=200)] = "pathasst"
    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    tools: list[ClientTool] | None = Field(default=None, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = True
    response_format: ResponseFormat | None = None
    max_tokens: Tokens = Field(default=None, description="Tokens of the answer, the footer aside.")
    max_completion_tokens: Tokens = None
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    temperature: Temperature = None
    top_p: Share = None
    seed: Seed = None
    n: Literal[1] | None = 1
    logprobs: Annotated[bool | None, _unless(None, False)] = None
    top_logprobs: Annotated[int | None, _unless(None, 0)] = None
    logit_bias: Annotated[dict[str, float] | None, _unless(None, {})] = None
    frequency_penalty: Annotated[float | None, _unless(None, 0)] = None
    presence_penalty: Annotated[float | None, _unless(None, 0)] = None
    modalities: Annotated[list[str] | None, _unless(None, ["text"])] = None
    audio: Annotated[Any, _unless(None)] = None
    functions: Annotated[Any, _unless(None, [])] = None
    function_call: Annotated[Any, _unless(None, "none")] = None
    pathasst: Options = Field(default_factory=Options)

    @model_validator(mode="after")
    def _complete(self) -> ChatRequest:
        if self.messages[-1].role not in ("user", "tool"):
            raise ValueError("the last message must be the user's, or a tool's result.")
        if self.tools is None and any(m.role == "tool" or m.tool_calls for m in self.messages):
            raise ValueError("messages with tool calls or results need the `tools` that they belong to.")
        if not self.tools and (self.tool_choice == "required" or isinstance(self.tool_choice, NamedTool)):
            raise ValueError("tool_choice asks for a call, but there are no tools.")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts before which the answer ends."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def most_tokens(self) -> int | None:
        """Tokens that the answer may have."""
        limits = [n for n in (self.max_tokens, self.max_completion_tokens) if n is not None]
        return min(limits) if limits else None


class Usage(BaseModel):
    """Tokens; `estimated`: four characters counted as one, where the brain does not count by itself. Pictures are not counted."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    estimated: bool = False


class ReplyMessage(BaseModel):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str | None = None
    tool_calls: list[MessageToolCall] | None = None
    footer: str = ""  # the end of `content` that is not the model's own: what ran, sources, notices


class Choice(BaseModel):
    """The one choice."""

    index: int = 0
    message: ReplyMessage
    finish_reason: Literal["stop", "length", "tool_calls"] = "stop"


class ChatCompletion(BaseModel):
    """The whole answer. `pathasst`: what was run, sources, notices, ids of the pictures that tools made."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    pathasst: dict[str, Any] = Field(default_factory=dict)


def _no_tokens(value: Any) -> Any:
    if isinstance(value, list) and value and isinstance(value[0], int | list):
        raise ValueError("send the texts, not ids of tokens of another model (LangChain: check_embedding_ctx_length=False).")
    return value


class EmbeddingRequest(Shape):
    """Texts or pictures (data URLs, ids of uploaded files), all of one kind, for PathCLIP."""

    input: Annotated[
        Annotated[str, Field(min_length=1, max_length=32 * 2**20)]
        | Annotated[list[Annotated[str, Field(min_length=1, max_length=32 * 2**20)]], Field(min_length=1, max_length=256)],
        BeforeValidator(_no_tokens),
    ]
    dimensions: Annotated[int | None, Field(ge=1)] = None
    model: Annotated[str, Field(max_length=200)] = "pathclip"
    encoding_format: Literal["float", "base64"] | None = "float"


class Embedding(BaseModel):
    """One vector: numbers, or base64 of little-endian float32."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """Tokens of the texts, estimated."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(BaseModel):
    """The vectors, in the order of the input."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class Model(BaseModel):
    """A model on offer."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "pathasst"


class Models(BaseModel):
    """What there is."""

    object: Literal["list"] = "list"
    data: list[Model]


class ToolRun(Shape):
    """Arguments of a tool run by hand, and the picture it runs on."""

    arguments: dict[str, Any] = Field(default_factory=dict)
    image: Annotated[str, Field(min_length=1, max_length=64 * 2**20)] | None = None
    um_per_px: Scale = None


class PapersRequest(Shape):
    """A search of the literature."""

    query: Annotated[str, Field(min_length=2, max_length=500)]
    k: Annotated[int, Field(ge=1, le=100)] = 10
    mode: Literal["hybrid", "words", "vectors"] = "hybrid"
    since: Annotated[int, Field(ge=1800, le=2200)] | None = None
    until: Annotated[int, Field(ge=1800, le=2200)] | None = None
    journals: Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=50)] = Field(default_factory=list)
    types: Annotated[list[Annotated[str, Field(max_length=100)]], Field(max_length=50)] = Field(default_factory=list)
