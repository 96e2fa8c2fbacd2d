"""The page at `/demo`: its static files and its configuration."""

import json
from importlib import resources

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel
from starlette.staticfiles import StaticFiles

from blend.select import names, selector
from blend.settings.defaults import DEFAULTS

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""Headers of every file: no other origin is contacted, and no text of a document can run as a script."""


class SelectorObject(BaseModel):
    """A selector, and what its scores measure."""

    name: str
    measure: str


class PresetObject(BaseModel):
    """An example question; `source` is the document that answers it."""

    question: str
    source: str


class PageConfig(BaseModel):
    """Configuration of the page, besides the collections."""

    selectors: list[SelectorObject]
    selector: str
    recompute_ratio: float
    presets: list[PresetObject]


def page_router() -> APIRouter:
    """Routes of the page. They reveal nothing of the collections, so they need no key."""
    files = StaticFiles(packages=[("demo", "page")], html=True)
    config = _config()
    router = APIRouter(prefix="/demo", include_in_schema=False)

    @router.get("")
    async def enter() -> Response:
        # Relative, so that it works under any root path.
        return RedirectResponse("demo/")

    @router.get("/config.json")
    async def configure() -> PageConfig:
        return config

    @router.get("/{path:path}")
    async def file(path: str, request: Request) -> Response:
        response = await files.get_response(path or ".", request.scope)
        response.headers.update(HEADERS)
        return response

    return router


def _config() -> PageConfig:
    asked = json.loads((resources.files("demo") / "questions.json").read_text(encoding="utf-8"))
    return PageConfig(
        selectors=[SelectorObject(name=name, measure=selector(name).measure) for name in names()],
        selector=DEFAULTS.selector,
        recompute_ratio=DEFAULTS.recompute_ratio,
        presets=[PresetObject(question=one["question"], source=one["page"]) for one in asked],
    )
