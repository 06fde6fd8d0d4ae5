"""Routes for the service's state: served model, health, readiness, metrics."""

from functools import partial

import anyio
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request
from prometheus_client.exposition import choose_encoder
from starlette.responses import Response

from transect.serving.api.openapi import MODEL_VERSION_PARAMETER
from transect.serving.api.schemas import Health, ServedModelResponse, problems, served_model_response
from transect.serving.detection.model_version import check_version, requested_version
from transect.serving.detection.service import Service
from transect.serving.http.problems import ProblemError

router = APIRouter(tags=["state"])

_REFRESH_S = 30.0
_REFRESHERS = 4


@router.get(
    "/v1/model",
    responses=problems(
        {421: "Another version than X-Model-Version is served, or none.", 422: "X-Model-Version is no version."}
    ),
    openapi_extra={"parameters": [MODEL_VERSION_PARAMETER]},
)
async def model(request: Request) -> ServedModelResponse:
    """The served model and the state of the alias follower: last poll, last error, rejected versions."""
    service: Service = request.app.state.service
    served = service.slot.current
    if served is not None:
        check_version(request, served.detector.ref)
    elif requested_version(request) is not None:
        raise ProblemError(421, "model-version", f"No version is served here. {service.why_not_ready()}")
    return served_model_response(service)


@router.post(
    "/v1/model/refresh",
    responses={202: {"model": ServedModelResponse, "description": "Requested, but not finished within 30 s."}},
)
async def refresh(request: Request, response: Response) -> ServedModelResponse:
    """Poll MLflow for the alias now, and try its version again even if it was rejected."""
    service: Service = request.app.state.service
    # Waiting callers have a small thread limit of their own, so that they cannot use up the shared threads.
    limiter: CapacityLimiter = request.app.state.refreshers
    done = False
    with anyio.move_on_after(_REFRESH_S):
        work = partial(service.follower.refresh, _REFRESH_S)
        done = await to_thread.run_sync(work, limiter=limiter, abandon_on_cancel=True)
    response.status_code = 200 if done else 202
    return served_model_response(service)


@router.get("/healthz")
async def healthz() -> Health:
    """The process is alive. For the model see /readyz."""
    return Health()


@router.get("/readyz", responses=problems({503: "No model is loaded."}))
async def readyz(request: Request) -> Health:
    """A model is loaded and warmed up; otherwise 503 with the reason and the remedy."""
    service: Service = request.app.state.service
    service.require_model()
    return Health()


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Metrics for Prometheus."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    service: Service = request.app.state.service
    if service.slot.current is not None:
        service.slot.current.export_to(service.metrics)
    return Response(encode(service.metrics.registry), headers={"Content-Type": content_type})


def new_refreshers() -> CapacityLimiter:
    """Create the limit on concurrent waits for a refresh. Call it inside the running event loop."""
    return CapacityLimiter(_REFRESHERS)
