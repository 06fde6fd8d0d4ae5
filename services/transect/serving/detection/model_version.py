"""The header X-Model-Version: which version may answer a request, and which one did.

A version that is not served here is 421 (Misdirected Request, RFC 9110, 15.5.20): another replica may serve it, and
the client or a proxy may ask there, whatever the method. 409 and 412 would speak of the resource, and 503 of a service
that is busy.
"""

import re

from starlette.requests import Request

from transect.engine import ModelRef
from transect.serving.http.problems import ProblemError
from transect.serving.http.request_context import MODEL_VERSION

# MLflow counts the versions of a model from 1.
_VERSION = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


def requested_version(request: Request) -> str | None:
    """Return the version that alone may answer; None if any may.

    ProblemError (422) for a header that is no version, or is there twice.
    """
    values = request.headers.getlist(MODEL_VERSION)
    if not values:
        return None
    if len(values) > 1:
        raise _invalid(f"{MODEL_VERSION} is there {len(values)} times; name one version, once.")
    if not _VERSION.fullmatch(values[0]):
        raise _invalid(f"{MODEL_VERSION}: {values[0][:40]!r} is no version of a model, which is a number from 1.")
    return values[0]


def check_version(request: Request, ref: ModelRef) -> None:
    """Note that `ref` answers `request`, which the response names; ProblemError (421) if another one was asked for."""
    wanted = requested_version(request)
    request.state.model_version = ref.version
    if wanted not in (None, ref.version):
        detail = (
            f"Version {wanted} of {ref.name} is not served here, but version {ref.version}; ask another replica, or "
            f"send no {MODEL_VERSION} to take the version that is served."
        )
        raise ProblemError(421, "model-version", detail)


def _invalid(detail: str) -> ProblemError:
    return ProblemError(422, "model-version", detail)
