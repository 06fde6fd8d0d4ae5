"""The ASGI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import to_thread
from fastapi import FastAPI

from transect import __version__
from transect.serving import (
    detect_routes,
    hook_routes,
    mlflow_scoring,
    open_inference,
    page_routes,
    state_routes,
)
from transect.serving.access import Access
from transect.serving.early import EarlyAnswer
from transect.serving.middleware import RequestContext
from transect.serving.openapi import describe_honestly
from transect.serving.problems import install_problem_handlers
from transect.serving.service import Service
from transect.serving.source import ModelSource, RegistrySource
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
