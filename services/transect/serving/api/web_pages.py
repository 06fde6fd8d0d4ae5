"""The two web pages. They are self-contained and load nothing from other hosts."""

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

_PAGES = Path(__file__).parent / "pages"
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
        "img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
}


def _page(name: str) -> HTMLResponse:
    return HTMLResponse((_PAGES / name).read_text(encoding="utf-8"), headers=_HEADERS)


@router.get("/")
def index() -> HTMLResponse:
    """The page to try a photo and see its boxes."""
    return _page("index.html")


@router.get("/docs")
def docs() -> HTMLResponse:
    """The HTTP API, rendered from /openapi.json."""
    return _page("docs.html")
