"""The ASGI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import to_thread
from fastapi import FastAPI

from transect import __version__
from transect.serving.api import detect, status, web_pages, webhook
from transect.serving.api.openapi import install_openapi
from transect.serving.api.schemas import NdjsonLineResponse, Problem
from transect.serving.detection.image import detect_upload
from transect.serving.detection.service import DetectUpload, Service
from transect.serving.http.access import AccessMiddleware
from transect.serving.http.lingering_close import LingeringCloseMiddleware
from transect.serving.http.problems import install_problem_handlers
from transect.serving.http.request_context import RequestContextMiddleware
from transect.serving.models.source import ModelSource, RegistrySource
from transect.serving.protocols import mlflow_scoring, open_inference
from transect.serving.protocols.mlflow_messages import ScoringMessage
from transect.serving.protocols.open_inference_messages import InferMessage
from transect.settings import Settings


def create_app(
    settings: Settings, source: ModelSource | None = None, *, detect_image: DetectUpload = detect_upload
) -> FastAPI:
    """Create the detection service for `settings`; it follows the alias while the application runs.

    `source` supplies the models; the default is the registry configured in `settings`. `detect_image` searches one
    image on a worker thread.
    """
    service = Service(settings, source or RegistrySource(settings), detect_image)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.refreshers = status.new_refreshers()
        service.start()
        try:
            yield
        finally:
            await to_thread.run_sync(service.stop)

    app = FastAPI(
        title="Transect detector",
        version=__version__,
        description="Finds animals in aerial photos with the model behind an MLflow alias.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service
    app.add_middleware(AccessMiddleware, hosts=settings.allowed_host_names, tokens=settings.token_list)
    # Each middleware wraps those added before it.
    app.add_middleware(RequestContextMiddleware, metrics=service.metrics)
    app.add_middleware(LingeringCloseMiddleware)
    install_problem_handlers(app)
    for module in (detect, open_inference, mlflow_scoring, status, webhook, web_pages):
        app.include_router(module.router)
    models = (Problem, NdjsonLineResponse, webhook.AliasEvent, InferMessage, ScoringMessage)
    install_openapi(app, models)
    return app
