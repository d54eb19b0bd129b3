"""The OpenAPI description, written down rather than derived: bodies are checked by our own code, and so are answers."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from ppcls import __version__
from ppcls.configs.serving import ServeOptions
from ppcls.serving import messages

_REF = "#/components/schemas/{model}"
_MODELS = (
    messages.EmbedRequest,
    messages.BuildRequest,
    messages.AddRequest,
    messages.RemoveRequest,
    messages.InferRequest,
    messages.EmbedAnswer,
    messages.BuildAnswer,
    messages.IndexAnswer,
    messages.InferAnswer,
    messages.HealthAnswer,
    messages.Failure,
)
_REASONS = {
    401: "no token, or a wrong one",
    404: "no such index",
    408: "the body did not arrive in time",
    409: "the index exists already, or belongs to another model",
    413: "body too large, or too many images",
    415: "another content type than application/json",
    422: "the request, or an image in it, cannot be used",
    500: "the model failed",
    503: "too much to do: try again after Retry-After seconds",
    504: "no answer in time; whether an index was changed is open",
    507: "the index, or the folder of indexes, is full",
}
_EVERY = (408, 413, 415, 422, 500, 503, 504)
_WITH_INDEX = (404, 409, 507)

_TEXTS = {"type": ["array", "null"], "items": {"type": ["string", "null"]}}
_TENSOR = {
    "type": ["object", "null"],
    "description": "an image as base64 text is elem_type 12 (string), in str_data",
    "properties": {
        "name": {"type": ["string", "null"]},
        "elem_type": {"type": ["integer", "null"], "minimum": -(2**31), "maximum": 2**31 - 1},
        "str_data": _TEXTS,
    },
}
_PADDLE_REQUEST = {
    "type": ["object", "null"],
    "description": "Paddle Serving's pipeline request: keys and values pair up, one image each",
    "properties": {
        "key": {**_TEXTS, "example": ["image"]},
        "value": {"type": ["array", "null"], "items": {"type": ["string", "null"], "format": "byte"}},
        "logid": {"type": ["integer", "null"], "minimum": -(2**63), "maximum": 2**63 - 1},
        "clientip": {"type": ["string", "null"]},
        "name": {"type": ["string", "null"], "description": "taken from the path instead"},
        "method": {"type": ["string", "null"], "description": "taken from the path instead"},
        "tensors": {"type": ["array", "null"], "items": _TENSOR},
    },
}
_PADDLE_ANSWER = {
    "type": "object",
    "required": ["err_no", "err_msg", "key", "value", "tensors"],
    "additionalProperties": False,
    "properties": {
        "err_no": {"type": "integer", "description": "0: all is well"},
        "err_msg": {"type": "string"},
        "key": {"type": "array", "items": {"type": "string"}, "example": ["features"]},
        "value": {
            "type": "array",
            "items": {"type": "string"},
            "description": "text of a list [N, D]",
            "example": ["[[0.25, -1.5]]"],
        },
        "tensors": {"type": "array", "maxItems": 0},
    },
}
_GATEWAY_ERROR = {
    "type": "object",
    "required": ["error", "code", "message", "details"],
    "additionalProperties": False,
    "properties": {
        "error": {"type": "string"},
        "code": {"type": "integer"},
        "message": {"type": "string"},
        "details": {"type": "array", "maxItems": 0},
    },
}


def describe(options: ServeOptions, needs_token: bool) -> dict[str, Any]:
    """The document at /openapi.json."""
    _, schemas = models_json_schema([(model, "validation") for model in _MODELS], ref_template=_REF)
    components: dict[str, Any] = {
        "schemas": {
            **schemas["$defs"],
            "PaddleRequest": _PADDLE_REQUEST,
            "PaddleAnswer": _PADDLE_ANSWER,
            "GatewayError": _GATEWAY_ERROR,
        }
    }
    if needs_token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Person re-identification",
            "version": __version__,
            "description": "Embeddings of person images, and named indexes of them to search.",
        },
        "paths": _paths(options, needs_token),
        "components": components,
    }


def _paths(options: ServeOptions, needs_token: bool) -> dict[str, Any]:
    locked: dict[str, Any] = {"security": [{"token": []}]} if needs_token else {}
    also = (401,) if needs_token else ()
    post = lambda *arguments: {"post": {**_post(*arguments, also=also), **locked}}  # noqa: E731
    return {
        "/{service}/{method}": {"post": {**_predict(options, also), **locked}},
        "/reid-embed": post("embed", "Embeddings of one image or several", "EmbedRequest", "EmbedAnswer", ()),
        "/reid-index-build": post("build", "A new index", "BuildRequest", "BuildAnswer", _WITH_INDEX),
        "/reid-index-add": post("add", "More images in an index", "AddRequest", "IndexAnswer", _WITH_INDEX),
        "/reid-index-remove": post("remove", "Images out of an index", "RemoveRequest", "IndexAnswer", _WITH_INDEX),
        "/reid-infer": post("infer", "The nearest images of an index", "InferRequest", "InferAnswer", _WITH_INDEX),
        "/health": {
            "get": {
                "operationId": "health",
                "summary": "Whether the service answers, and with which model",
                "responses": {"200": _json("HealthAnswer", "well"), "503": _json("Failure", "not well")},
            }
        },
        "/metrics": {
            "get": {
                "operationId": "metrics",
                "summary": "Figures for Prometheus",
                "responses": {
                    "200": {"description": "text", "content": {"text/plain": {"schema": {"type": "string"}}}},
                    **{str(status): _json("Failure", _REASONS[status]) for status in also},
                },
                **locked,
            }
        },
    }


def _post(name: str, summary: str, asked: str, answer: str, statuses: tuple[int, ...], *, also: tuple[int, ...]):
    failures = {str(status): _json("Failure", _REASONS[status]) for status in sorted({*_EVERY, *statuses, *also})}
    return {
        "operationId": name,
        "summary": summary,
        "requestBody": _body(asked, required=True),
        "responses": {"200": _json(answer, "done"), **failures},
    }


def _predict(options: ServeOptions, also: tuple[int, ...]) -> dict[str, Any]:
    text = lambda **more: {"in": "path", "required": True, "schema": {"type": "string", "minLength": 1, **more}}  # noqa: E731
    statuses = sorted({408, 413, 503, *also})
    return {
        "operationId": "predict",
        "summary": "Embeddings by Paddle Serving's pipeline protocol",
        "description": "Errors of the request's content have HTTP status 200 and an err_no.",
        "parameters": [
            {"name": "service", "description": "another name: err_no 3002", **text(example=options.name)},
            {"name": "method", "description": "not looked at", **text(example="prediction")},
        ],
        "requestBody": _body("PaddleRequest", required=False),
        "responses": {
            "200": _json("PaddleAnswer", "embeddings, or an err_no"),
            "400": _json("GatewayError", "the body is no such message"),
            **{str(status): _json("PaddleAnswer", _REASONS[status]) for status in statuses},
        },
    }


def _body(schema: str, required: bool) -> dict[str, Any]:
    return {"required": required, "content": {"application/json": {"schema": {"$ref": _REF.format(model=schema)}}}}


def _json(schema: str, description: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": _REF.format(model=schema)}}}
    return {"description": description, "content": content}
