"""What schemathesis cannot know by itself: images. It loads this file by the variable SCHEMATHESIS_HOOKS."""

import io
import json
from typing import Any

import numpy as np
import schemathesis
from hypothesis import strategies as st
from PIL import Image

_buffer = io.BytesIO()
Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(_buffer, "PNG")
_PNG = st.just(_buffer.getvalue())

schemathesis.openapi.media_type("image/*", _PNG)
schemathesis.openapi.format("binary", _PNG)


@schemathesis.deserializer("application/x-ndjson")
def lines(ctx: Any, response: Any) -> Any:
    """Every line is JSON; the description is of one line, so one line is compared with it."""
    return [json.loads(line) for line in response.content.splitlines()][-1]


@schemathesis.hook
def filter_case(ctx: Any, case: Any) -> bool:
    """Leave out requests whose only fault is a header that nobody knows: HTTP lets anyone send one."""
    return not any(name.lower() == "x-schemathesis-unknown-property" for name in case.headers or {})
