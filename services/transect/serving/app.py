"""The ASGI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import to_thread
from fastapi import FastAPI

from transect import __version__
from transect.serving.api import detect as detect_routes
from transect.serving.api import status as state_routes
from transect.serving.api import web_pages as page_routes
from transect.serving.api import webhook as hook_routes
from transect.serving.api.openapi import describe_honestly
from transect.serving.detection.service import Service
from transect.serving.http.access import Access
from transect.serving.http.lingering_close import EarlyAnswer
from transect.serving.http.problems import install_problem_handlers
from transect.serving.http.request_context import RequestContext
from transect.serving.models.source import ModelSource, RegistrySource
from transect.serving.protocols import mlflow_scoring, open_inference
from transect.settings import Settings


def create_app(settings: Settings, source: ModelSource | None = None) -> FastAPI:
    """The detection service for `settings`; it follows the alias while the application runs.

    `source` brings the models; by default it is the registry that `settings` name.
    """
    service = Service(settings, source or RegistrySource(settings))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.refreshers = state_routes.new_refreshers()
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
    app.add_middleware(Access, hosts=settings.allowed_host_names, tokens=settings.token_list)
    # Each stands around those that were added before.
    app.add_middleware(RequestContext, metrics=service.metrics)
    app.add_middleware(EarlyAnswer)
    install_problem_handlers(app)
    for room in (detect_routes, open_inference, mlflow_scoring, state_routes, hook_routes, page_routes):
        app.include_router(room.router)
    describe_honestly(app)
    return app
