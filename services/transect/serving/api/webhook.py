"""POST /v1/hooks/mlflow: MLflow says that an alias moved, and the follower looks at once.

The message only wakes the follower, which asks MLflow where the alias points. So a message that is
lost, late, repeated or wrong about the version changes nothing: polling finds the truth.
"""

import logging
from time import time
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.responses import Response

from transect.serving.api.openapi import inlined
from transect.serving.api.schemas import problems
from transect.serving.api.webhook_signature import DELIVERY_ID, SIGNATURE, TIMESTAMP, SignatureError, check_signature
from transect.serving.detection.service import Service
from transect.serving.http.problems import ProblemError
from transect.serving.http.request_body import read_body

router = APIRouter(tags=["state"])
_log = logging.getLogger(__name__)

# MLflow's messages about aliases have some hundred bytes.
_MOST_BYTES = 64 << 10
_ALIAS = "model_version_alias"


class AliasEvent(BaseModel):
    """An event of MLflow's registry; `data` of an alias holds the model's name, the alias and the version."""

    model_config = ConfigDict(extra="allow")

    entity: str
    action: str
    data: dict[str, Any]


_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": inlined(AliasEvent)}}}
}


@router.post(
    "/v1/hooks/mlflow",
    status_code=202,
    response_class=Response,
    responses={
        202: {"description": "The followed alias moved; the service asks MLflow where it points."},
        204: {"description": "About something else; nothing is done."},
        **problems(
            {
                401: "Not signed with TRANSECT_WEBHOOK_SECRET, or too long ago.",
                403: "TRANSECT_WEBHOOK_SECRET is not set, so that no message can be trusted.",
                408: "The body stopped arriving.",
                413: "No message of MLflow is that long.",
                422: "Signed, and no message of MLflow.",
            }
        ),
    },
    openapi_extra=_BODY,
)
async def mlflow_hook(
    request: Request,
    _signature: Annotated[str | None, Header(alias=SIGNATURE, description="v1,BASE64 of the HMAC-SHA256.")] = None,
    _timestamp: Annotated[str | None, Header(alias=TIMESTAMP, description="Unix seconds of the signature.")] = None,
    _delivery: Annotated[str | None, Header(alias=DELIVERY_ID, description="Signed with the body.")] = None,
) -> Response:
    """Take a signed message of MLflow that an alias was set or deleted, and look at once."""
    service: Service = request.app.state.service
    if not service.settings.webhook_secret:
        detail = "This service takes no webhooks: set TRANSECT_WEBHOOK_SECRET here and in MLflow; until then it polls."
        raise ProblemError(403, "webhook-off", detail)
    body = await read_body(request, _MOST_BYTES, ", longer than any message of MLflow.")
    outcome = service.metrics.webhooks
    try:
        check_signature(service.settings.webhook_secret, request.headers, body, now=time())
        event = AliasEvent.model_validate_json(body)
    except SignatureError as error:
        outcome.labels("refused").inc()
        _log.warning("A webhook was refused", extra={"reason": str(error), "request_id": request.state.request_id})
        raise ProblemError(401, "signature", str(error), {"WWW-Authenticate": SIGNATURE}) from None
    except ValidationError:
        outcome.labels("refused").inc()
        raise ProblemError(422, "webhook", "The message is signed, and is no event of MLflow's registry.") from None
    ours = (_ALIAS, service.settings.model_name, service.settings.model_alias)
    if (event.entity, event.data.get("name"), event.data.get("alias")) != ours:
        outcome.labels("ignored").inc()
        return Response(status_code=204)
    outcome.labels("accepted").inc()
    request.state.log.update(webhook=event.action)
    service.follower.nudge()
    return Response(status_code=202)
