"""The application: everything put together, without a server."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI
from starlette.exceptions import HTTPException

from ppcls.configs.exported import read_exported
from ppcls.configs.serving import TOKEN_VARIABLE, ServeOptions
from ppcls.retrieval.predictor import Predictor, embed_rows, example_batch, open_predictor
from ppcls.serving.answers import crash_answer, http_error_answer, problem_answer
from ppcls.serving.client import checked_token, read_token
from ppcls.serving.guard import Guard
from ppcls.serving.logs import event
from ppcls.serving.metrics import Metrics
from ppcls.serving.openapi import describe
from ppcls.serving.problems import Problem
from ppcls.serving.routes import Routes
from ppcls.serving.service import Service
from ppcls.utils.errors import UserError
from ppcls.utils.files import digest, digest_file
from ppcls.utils.tuning import usable_cores


def create_app(options: ServeOptions, predictor: Predictor | None = None) -> FastAPI:
    """The service as an ASGI application. The model is loaded and warm when this returns.

    Args:
        options: all settings; the address among them is not used here.
        predictor: a loaded model to serve instead of ``options.model_dir``; it is closed with the application.

    Raises:
        UserError: no usable model, token file or index folder.
    """
    token = find_token(options)
    if predictor is not None:
        digest_of_graph = digest(predictor.model.model_dump_json().encode())
    else:
        digest_of_graph = digest_of(options)
        predictor = load(options)
        if digest_of(options) != digest_of_graph:
            predictor.close()
            raise UserError(f"{options.model_dir} changed while it was being loaded; start again")
    event("model", folder=options.model_dir, digest=digest_of_graph, backend=predictor.backend)
    service = Service(options, predictor, digest_of_graph, Metrics())
    routes = Routes(service)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await service.close()
        routes.close()

    app = FastAPI(docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan)
    app.state.service = service
    app.add_middleware(Guard, metrics=service.metrics, token=token)
    app.add_exception_handler(Problem, problem_answer)
    app.add_exception_handler(HTTPException, http_error_answer)
    app.add_exception_handler(Exception, crash_answer)
    app.include_router(routes.router())
    description = describe(options, token is not None)
    app.openapi = lambda: description
    return app


def load(options: ServeOptions) -> Predictor:
    """The model, warm: its first batches, which take longer, are behind it."""
    predictor = open_predictor(
        options.model_dir,
        options.backend,
        use_gpu=options.use_gpu,
        cpu_threads=options.cpu_threads or max(1, usable_cores() // options.workers),
        enable_mkldnn=options.enable_mkldnn,
        precision=options.precision,
    )
    for size in {1, options.max_batch}:
        embed_rows(predictor, list(example_batch(predictor.model, size)))
    return predictor


def digest_of(options: ServeOptions) -> str:
    """Of all graphs in the folder and their sidecar's meaning: changes when any file that could be loaded does."""
    folder = Path(options.model_dir)
    model = read_exported(folder)
    names = sorted({name for graph in model.graphs for name in (graph.model, graph.params) if name})
    parts = [f"{name}:{digest_file(folder / name)}" for name in names if (folder / name).is_file()]
    return digest("\n".join([model.model_dump_json(), *parts]).encode())


def find_token(options: ServeOptions) -> str | None:
    """The bearer token of the file or, without one, of the environment variable; None if that is not there or empty.

    Raises:
        UserError: a file that cannot be read, or no token in it or in the variable.
    """
    if options.token_file is not None:
        return read_token(options.token_file)
    given = os.environ.get(TOKEN_VARIABLE)
    return checked_token(given, f"the variable {TOKEN_VARIABLE}") if given else None
