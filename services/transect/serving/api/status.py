"""What the service says about itself: model, health, readiness, metrics."""

from functools import partial

import anyio
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request
from prometheus_client.exposition import choose_encoder
from starlette.responses import Response

from transect.serving.api.schemas import Health, ServedAnswer, describe, problems
from transect.serving.detection.service import Service

router = APIRouter(tags=["state"])

_REFRESH_S = 30.0
_REFRESHERS = 4


@router.get("/v1/model")
async def model(request: Request) -> ServedAnswer:
    """The served model, and how the following of its alias goes: last poll, last error, refused versions."""
    return describe(request.app.state.service)


@router.post(
    "/v1/model/refresh", responses={202: {"model": ServedAnswer, "description": "Asked; not done yet after 30 s."}}
)
async def refresh(request: Request, response: Response) -> ServedAnswer:
    """Ask MLflow now where the alias points, and try that version again even if it was refused."""
    service: Service = request.app.state.service
    # Waiting callers get few threads of their own, so that they cannot use up everybody's.
    limiter: CapacityLimiter = request.app.state.refreshers
    done = False
    with anyio.move_on_after(_REFRESH_S):
        ask = partial(service.follower.refresh, _REFRESH_S)
        done = await to_thread.run_sync(ask, limiter=limiter, abandon_on_cancel=True)
    response.status_code = 200 if done else 202
    return describe(service)


@router.get("/healthz")
async def healthz() -> Health:
    """The process is alive. Says nothing about a model: see /readyz."""
    return Health()


@router.get("/readyz", responses=problems({503: "No model is loaded."}))
async def readyz(request: Request) -> Health:
    """A model is loaded and warm; otherwise 503 with what to do."""
    service: Service = request.app.state.service
    if service.slot.current is None:
        raise service.not_ready()
    return Health()


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Metrics for Prometheus."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    service: Service = request.app.state.service
    if service.slot.current is not None:
        service.slot.current.show_in(service.metrics)
    return Response(encode(service.metrics.registry), headers={"Content-Type": content_type})


def new_refreshers() -> CapacityLimiter:
    """How many may wait for a refresh at once. Made inside the running event loop."""
    return CapacityLimiter(_REFRESHERS)
