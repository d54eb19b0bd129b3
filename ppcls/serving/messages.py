"""Requests and answers of the PaddleX-style routes: ``{"logId", "errorCode", "errorMsg", "result"}``."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from ppcls.serving.go_json import shortened
from ppcls.serving.problems import BadRequest

_SHOWN_ERRORS = 10

#: Names of indexes: they become names of folders.
KEY_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"


def _as_integer(value: Any) -> Any:
    """1.0 is an integer in JSON Schema, and some languages write all numbers so; "1" and true are none."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _place(part: int | str) -> int | str:
    return shortened(part) if isinstance(part, str) else part


Image = Annotated[
    str,
    Field(
        description="an image file (JPEG, PNG, BMP or WebP) as base64; URLs are not fetched",
        json_schema_extra={"format": "byte"},
    ),
]
IndexKey = Annotated[str, Field(pattern=KEY_PATTERN, description="name of an index")]
Label = Annotated[str, Field(min_length=1, max_length=256, description="what the answer to a search names")]
Row = Annotated[int, Field(ge=0, lt=2**63, description="number of an image in its index"), BeforeValidator(_as_integer)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class EmbedRequest(_Message):
    """One image, or several."""

    image: Image | None = None
    images: Annotated[list[Image], Field(min_length=1, fail_fast=True)] | None = None

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["image"], "properties": {"image": {"type": "string"}, "images": {"type": "null"}}},
                {"required": ["images"], "properties": {"image": {"type": "null"}, "images": {"type": "array"}}},
            ]
        }
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> EmbedRequest:
        if (self.image is None) == (self.images is None):
            raise ValueError("give either 'image' or 'images'")
        return self

    @property
    def pictures(self) -> list[tuple[str, str]]:
        """(name for messages, base64) of each image."""
        if self.image is not None:
            return [("image", self.image)]
        return [(f"images[{number}]", text) for number, text in enumerate(self.images or [])]


class ImageLabelPair(_Message):
    """A picture of a person and what to call it."""

    image: Image
    label: Label


class BuildRequest(_Message):
    """A new index."""

    imageLabelPairs: Annotated[list[ImageLabelPair], Field(min_length=1, fail_fast=True)]
    indexKey: IndexKey | None = Field(None, description="its name; one is made up if there is none")

    @property
    def pictures(self) -> list[tuple[str, str]]:
        """(name for messages, base64) of each image."""
        return [(f"imageLabelPairs[{number}]", pair.image) for number, pair in enumerate(self.imageLabelPairs)]


class AddRequest(BuildRequest):
    """More pictures for an index."""

    indexKey: IndexKey | None = Field(None, description="its name; --default-index if there is none")


class RemoveRequest(_Message):
    """Pictures to take out of an index."""

    ids: Annotated[list[Row], Field(min_length=1, fail_fast=True)]
    indexKey: IndexKey | None = Field(None, description="its name; --default-index if there is none")


class InferRequest(_Message):
    """A picture to look for."""

    image: Image
    indexKey: IndexKey | None = Field(None, description="its name; --default-index if there is none")
    topk: Annotated[int, Field(ge=1, le=100, description="how many neighbours"), BeforeValidator(_as_integer)] = 5
    recThreshold: float | None = Field(None, ge=-1, le=1, description="smallest cosine similarity of a neighbour")


class _Answer(BaseModel):
    logId: str = Field(description="the request's id, as in the header X-Request-Id")
    errorCode: Literal[0] = 0
    errorMsg: str = "Success"


class Failure(BaseModel):
    """Any answer that is not a success; ``errorCode`` is the HTTP status."""

    model_config = ConfigDict(extra="forbid")
    logId: str
    errorCode: int
    errorMsg: str


class EmbedResult(BaseModel):
    """``embeddings``: one row for each image, in order."""

    embeddings: list[list[float]]
    featureDim: int
    normalised: bool


class EmbedAnswer(_Answer):
    """Answer of /reid-embed."""

    result: EmbedResult


class IndexResult(BaseModel):
    """``idMap``: number of each image in the index → its label."""

    idMap: dict[str, str]


class IndexAnswer(_Answer):
    """Answer of /reid-index-add and /reid-index-remove."""

    result: IndexResult


class BuildResult(IndexResult):
    """As :class:`IndexResult`, with the index's name."""

    indexKey: str


class BuildAnswer(_Answer):
    """Answer of /reid-index-build."""

    result: BuildResult


class Neighbour(BaseModel):
    """``score``: cosine similarity."""

    label: str
    score: float
    id: int


class InferResult(BaseModel):
    """Nearest first."""

    recResults: list[Neighbour]


class InferAnswer(_Answer):
    """Answer of /reid-infer."""

    result: InferResult


class HealthResult(BaseModel):
    """What is being served."""

    name: str
    model: str
    digest: str = Field(description="of the graph's files as they were loaded")
    backend: str
    precision: str
    featureDim: int
    height: int
    width: int
    version: str


class HealthAnswer(_Answer):
    """Answer of /health."""

    result: HealthResult


Request = TypeVar("Request", bound=_Message)


def parse(kind: type[Request], body: bytes) -> Request:
    """The request in a JSON body.

    Raises:
        BadRequest: with the list of what is wrong, as JSON.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        problems: list[Any] = error.errors(include_url=False, include_context=False, include_input=False)
        shown = [{**problem, "loc": ["body", *map(_place, problem["loc"])]} for problem in problems[:_SHOWN_ERRORS]]
        raise BadRequest(json.dumps(shown, ensure_ascii=False)) from None
