"""POST /v1/hooks/mlflow: on an MLflow webhook about the alias, the follower polls at once.

MLflow sends it to one address, so that of several replicas the one that receives it passes it on to the others.
The webhook only triggers the poll; its version is not used. So a webhook that is lost, late, repeated or wrong does no
harm: regular polling still finds the alias's version.
"""

import logging
from time import time
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.responses import Response

from transect.serving.api.openapi import component_ref
from transect.serving.api.schemas import problems
from transect.serving.api.webhook_signature import DELIVERY_ID, SIGNATURE, TIMESTAMP, SignatureError, check_signature
from transect.serving.detection.service import Service
from transect.serving.http.problems import ProblemError
from transect.serving.http.request_body import read_body
from transect.serving.models.peers import PASSED_ON

router = APIRouter(tags=["state"])
_log = logging.getLogger(__name__)

# MLflow's alias events are a few hundred bytes long.
_MOST_BYTES = 64 << 10
_ALIAS = "model_version_alias"


class AliasEvent(BaseModel):
    """An event of MLflow's registry; for an alias, `data` has the model's name, the alias and the version."""

    model_config = ConfigDict(extra="allow")

    entity: str
    action: str
    data: dict[str, Any]


_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": component_ref(AliasEvent)}}}
}


@router.post(
    "/v1/hooks/mlflow",
    status_code=202,
    response_class=Response,
    responses={
        202: {"description": "The followed alias was set or deleted; the service polls MLflow at once."},
        204: {"description": "Another event, model or alias, or this replica's own message; ignored."},
        **problems(
            {
                401: "Not signed with TRANSECT_WEBHOOK_SECRET, or too long ago.",
                403: "TRANSECT_WEBHOOK_SECRET is not set, so no webhook can be verified.",
                408: "The body stopped arriving.",
                413: "The body is longer than any webhook of MLflow.",
                422: "Signed, but not an MLflow registry event.",
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
    sender: Annotated[
        str | None, Header(alias=PASSED_ON, description="The replica that passed it on; it is not passed on again.")
    ] = None,
) -> Response:
    """Receive MLflow's signed webhook for a set or deleted alias, and poll MLflow at once."""
    service: Service = request.app.state.service
    if not service.settings.webhook_secret:
        detail = "Webhooks are off: set TRANSECT_WEBHOOK_SECRET here and in MLflow; until then the service polls."
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
        detail = "The message is signed, but is not an event of MLflow's registry."
        raise ProblemError(422, "webhook", detail) from None
    followed = (_ALIAS, service.settings.model_name, service.settings.model_alias)
    if (event.entity, event.data.get("name"), event.data.get("alias")) != followed:
        outcome.labels("ignored").inc()
        return Response(status_code=204)
    if sender == service.peers.identity:
        # The name of all replicas also leads back here.
        return Response(status_code=204)
    outcome.labels("accepted").inc()
    request.state.log.update(webhook=event.action)
    service.follower.poll_soon()
    if sender is None:
        signed = {name: request.headers[name] for name in (SIGNATURE, TIMESTAMP, DELIVERY_ID)}
        service.peers.pass_on(body, signed)
    return Response(status_code=202)
