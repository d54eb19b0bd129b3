"""The routes. Bodies are read and checked here; FastAPI finds the route and describes it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import Any, TypeVar

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from ppcls import __version__
from ppcls.retrieval.gallery import model_digest
from ppcls.serving import messages, metrics, protocol
from ppcls.serving.answers import failure, paddle_answer, paddle_result, success
from ppcls.serving.body import attended, read_body
from ppcls.serving.indexes import Indexes
from ppcls.serving.limits import Share
from ppcls.serving.problems import BadRequest, NotFound, NotJson
from ppcls.serving.service import Service

Asked = TypeVar("Asked")
Result = TypeVar("Result")
_MIB = 1024**2
_INLINE_ROWS = 4
_PAGE_MAY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
    "img-src blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Routes:
    """Handlers over one :class:`Service`."""

    def __init__(self, service: Service) -> None:
        self.service = service
        options, model = service.options, service.predictor.model
        self._indexes = (
            Indexes(
                options.index_dir,
                model.output.feature_dim,
                model_digest(model),
                options.max_indexes,
                options.max_index_images,
            )
            if options.index_dir
            else None
        )
        self._index_thread = ThreadPoolExecutor(1, "indexes")

    def router(self) -> APIRouter:
        """All of them."""
        router = APIRouter()  # the busiest first: FastAPI tries them in turn
        router.add_api_route("/{service}/{method}", self.predict, methods=["POST"])
        router.add_api_route("/reid-embed", self.embed, methods=["POST"])
        router.add_api_route("/reid-infer", self.infer, methods=["POST"])
        posts = {"build": self.build, "add": self.add, "remove": self.remove}
        for name, handler in posts.items():
            router.add_api_route(f"/reid-index-{name}", handler, methods=["POST"])
        router.add_api_route("/health", self.health, methods=["GET"])
        router.add_api_route("/metrics", self.figures, methods=["GET"])
        router.add_api_route("/docs", self.docs, methods=["GET"])
        router.add_api_route("/", self.page, methods=["GET"])
        return router

    def close(self) -> None:
        """End the thread of the indexes."""
        self._index_thread.shutdown()

    async def predict(self, request: Request, service: str, method: str) -> Response:
        """Embeddings by Paddle Serving's pipeline protocol. ``method`` may be anything, as there."""
        async with self._read(request, json_only=False) as (body, memory):
            try:
                message = await self.service.light(protocol.decode_request, body)
            except protocol.GatewayError as error:
                return paddle_answer(request, protocol.gateway_error(str(error)), 400)
            if service != self.service.options.name:
                answer = protocol.error(protocol.ErrNo.NO_SERVICE, protocol.WRONG_SERVICE)
                return paddle_answer(request, answer)
            try:
                asked = protocol.parse_request(message)
            except protocol.ServingError as error:
                return paddle_answer(request, protocol.error(error.err_no, error.err_msg))
            images = [(protocol.image_name(key), text) for key, text in asked.images]
            async with self.service.place(len(images)):
                features = await self._embed(request, images, memory)
            return paddle_result(request, await self._encode(features, _paddle_response))

    async def embed(self, request: Request) -> Response:
        """Embeddings of one image or several."""
        async with self._asked(request, messages.EmbedRequest) as (asked, memory):
            async with self.service.place(len(asked.pictures)):
                features = await self._embed(request, asked.pictures, memory)
            output = self.service.predictor.model.output
            text = await self._encode(features, protocol.embeddings_text)
            facts = f'"featureDim":{output.feature_dim},"normalised":{json.dumps(output.normalised)}'
            return success(request, f'{{"embeddings":{text},{facts}}}'.encode())

    async def build(self, request: Request) -> Response:
        """A new index of labelled images."""
        async with self._asked(request, messages.BuildRequest) as (asked, memory):
            indexes, labels = self._need_indexes(), [pair.label for pair in asked.imageLabelPairs]
            async with self.service.place(len(labels)):
                features = await self._embed(request, asked.pictures, memory)
                key, id_map = await self._in_index_thread(indexes.build, asked.indexKey, features, labels)
            return success(request, _json({"indexKey": key, "idMap": id_map}))

    async def add(self, request: Request) -> Response:
        """More labelled images in an index."""
        async with self._asked(request, messages.AddRequest) as (asked, memory):
            indexes, labels = self._need_indexes(), [pair.label for pair in asked.imageLabelPairs]
            key = self._key(asked.indexKey)
            async with self.service.place(len(labels)):
                features = await self._embed(request, asked.pictures, memory)
                id_map = await self._in_index_thread(indexes.add, key, features, labels)
            return success(request, _json({"idMap": id_map}))

    async def remove(self, request: Request) -> Response:
        """Images out of an index."""
        async with self._asked(request, messages.RemoveRequest) as (asked, _memory):
            indexes, key = self._need_indexes(), self._key(asked.indexKey)
            async with self.service.place(1):
                id_map = await self._in_index_thread(indexes.remove, key, asked.ids)
            return success(request, _json({"idMap": id_map}))

    async def infer(self, request: Request) -> Response:
        """The images of an index that are nearest to one image."""
        async with self._asked(request, messages.InferRequest) as (asked, memory):
            indexes, key = self._need_indexes(), self._key(asked.indexKey)
            async with self.service.place(1):
                features = await self._embed(request, [("image", asked.image)], memory)
                found = await self._in_index_thread(indexes.search, key, features[0], asked.topk)
            least = -np.inf if asked.recThreshold is None else asked.recThreshold
            results = [{"label": label, "score": score, "id": row} for row, label, score in found if score >= least]
            return success(request, _json({"recResults": results}))

    async def health(self, request: Request) -> Response:
        """Whether the service answers, and with which model."""
        service = self.service
        if service.stuck_for:
            return failure(
                request, 503, f"Unhealthy: the model has not returned for {service.stuck_for:.0f} s too long"
            )
        model = service.predictor.model
        facts = messages.HealthResult(
            name=service.options.name,
            model=model.name,
            digest=service.digest,
            backend=service.predictor.backend,
            precision=service.predictor.precision,
            featureDim=model.output.feature_dim,
            height=model.input.height,
            width=model.input.width,
            version=__version__,
        )
        return success(request, facts.model_dump_json().encode(), "Healthy")

    async def figures(self, request: Request) -> Response:
        """Figures for Prometheus."""
        request.state.error = 0
        service = self.service
        service.metrics.memory.set(service.memory.used)
        return Response(await service.in_thread(service.metrics.text), 200, None, metrics.CONTENT_TYPE)

    async def page(self, request: Request) -> Response:
        """A page to try the service with."""
        return _page(request, "index.html")

    async def docs(self, request: Request) -> Response:
        """The routes, readable."""
        return _page(request, "docs.html")

    @contextlib.asynccontextmanager
    async def _read(self, request: Request, json_only: bool) -> AsyncIterator[tuple[bytes, Share]]:
        """(body, what the request holds of the memory)."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if json_only and kind != "application/json":  # a page of another site cannot send this type unasked
            raise NotJson("send the header Content-Type: application/json")
        options = self.service.options
        with Share(self.service.memory) as memory:
            yield await read_body(request, int(options.max_body_mb * _MIB), options.client_timeout, memory), memory

    @contextlib.asynccontextmanager
    async def _asked(self, request: Request, kind: type[Asked]) -> AsyncIterator[tuple[Asked, Share]]:
        async with self._read(request, json_only=True) as (body, memory):
            yield await self.service.light(lambda data: messages.parse(kind, data), body), memory

    async def _embed(self, request: Request, images: list[tuple[str, str]], memory: Share) -> np.ndarray:
        request.state.images = len(images)
        async with attended(request):
            return await self.service.embed(images, memory)

    async def _encode(self, features: np.ndarray, encode: Callable[[np.ndarray], Result]) -> Result:
        """A row takes a third of a millisecond: many of them would keep other requests waiting."""
        if len(features) <= _INLINE_ROWS:
            return encode(features)
        return await self.service.in_thread(encode, features)

    async def _in_index_thread(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """One change or search at a time. It is not stopped half-way: what was asked for is done or refused."""
        return await asyncio.get_running_loop().run_in_executor(self._index_thread, work, *arguments)

    def _need_indexes(self) -> Indexes:
        if self._indexes is None:
            raise NotFound("this service keeps no indexes; start it with --index-dir")
        return self._indexes

    def _key(self, given: str | None) -> str:
        key = given or self.service.options.default_index
        if key is None:
            raise BadRequest("no indexKey, and the service has no default one")
        return key


def _paddle_response(features: np.ndarray) -> bytes:
    return protocol.encode(protocol.response(features))


def _json(result: Any) -> bytes:
    return json.dumps(result, ensure_ascii=False, separators=(",", ":")).encode()


def _page(request: Request, name: str) -> Response:
    request.state.error = 0
    text = resources.files("ppcls.serving").joinpath("page", name).read_text(encoding="utf-8")
    return HTMLResponse(text, headers={"content-security-policy": _PAGE_MAY})
