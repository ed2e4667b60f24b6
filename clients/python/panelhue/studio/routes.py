"""Addresses beside gradio's own: pictures, the finished chapter, style and script; and what a page may load."""

from __future__ import annotations

from collections.abc import Callable, Collection
from importlib.resources import files
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import FileResponse, PlainTextResponse, RedirectResponse

from panelhue.errors import BookError, InvalidInput, NotFound, PanelhueError
from panelhue.studio.desk import Desk
from panelhue.studio.desks import Desks
from panelhue.studio.pictures import LARGE_SIDE, PAGE_SIDE, THUMB_SIDE, Kept, shown
from panelhue.studio.visitors import Public, refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from panelhue.retrieval_client import RetrievalClient

# The browser itself holds the page to this machine's studio. gradio builds templates with eval and styles inline.
POLICY = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    ]
)
HEADERS = {
    b"content-security-policy": POLICY.encode(),
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
}
ASSETS = {"studio.css": "text/css", "studio.js": "text/javascript", "icon.svg": "image/svg+xml"}
SIDES = {"grey": PAGE_SIDE, "colour": PAGE_SIDE, "grey-small": THUMB_SIDE, "colour-small": THUMB_SIDE}
FOR_GOOD = {"Cache-Control": "private, max-age=86400, immutable"}  # the address changes with the picture


class Guarded:
    """An application that answers who may ask; every answer carries the headers above.

    Args:
        app: the application.
        names: by which it may be called; none: by any.
        public: where a proxy offers it, if one does.
    """

    def __init__(self, app: ASGIApp, names: Collection[str], public: Public | None = None) -> None:
        self._app, self._names, self._public = app, names, public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers as the application does, or refuses."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS.items()]
            await send(message)

        answer: ASGIApp = self._app
        if scope["type"] != "lifespan":
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            origin = self._public.origin if self._public is not None else ""
            if (refused := refusal(scope.get("method", ""), headers, self._names, origin)) is not None:
                answer = PlainTextResponse(refused[1], refused[0])
            elif self._public is not None:
                if self._public.prefix and scope["path"] == self._public.prefix:
                    # What the page names is sought beside it, so its address ends in a slash.
                    answer = RedirectResponse(f"{self._public.url}/")
                scope = self._public.stripped(scope)
        await answer(scope, receive, sending)


def asset(name: str) -> str:
    """The text of a file that comes with the studio."""
    return files("panelhue.studio").joinpath("assets", name).read_text("utf-8")


def add_routes(app: FastAPI, desks: Desks, retrieval: RetrievalClient) -> None:
    """Adds the addresses, all below /ph-studio; gradio is mounted after them.

    A proxy's prefix, which it may or may not take off, is hardly ever called so.
    """
    router, kept = APIRouter(prefix="/ph-studio"), Kept()
    texts = {name: asset(name) for name in ASSETS}

    def get_asset(name: str) -> Response:
        if name not in texts:
            return PlainTextResponse("no such file", 404)
        return Response(texts[name], media_type=ASSETS[name], headers={"Cache-Control": "no-cache"})

    def get_chapter(token: str) -> Response:
        if (desk := desks.find(token)) is None:
            return PlainTextResponse("no such desk", 404)
        try:
            path = desk.packed()
        except PanelhueError as error:
            return PlainTextResponse(error.message, 404)
        name = f"{desk.title or 'chapter'}-colour.cbz"
        return FileResponse(path, media_type="application/vnd.comicbook+zip", filename=name)

    def get_page(token: str, place: int, side: str, v: str = "") -> Response:
        desk = desks.find(token)
        if desk is None or side not in SIDES or not 0 <= place < len(desk.pages):
            return PlainTextResponse("no such page", 404)
        read = _reader(desk, place, side)
        return _picture(lambda: kept.get((token, place, side, v), lambda: shown(read(), SIDES[side])))

    def get_reference(series: str, reference: str, size: str) -> Response:
        side = LARGE_SIDE if size == "large" else THUMB_SIDE

        def make() -> bytes:
            return shown(retrieval.download(series, reference, timeout=30.0).data, side)

        return _picture(lambda: kept.get((series, reference, side), make))

    router.add_api_route("/assets/{name}", get_asset)
    router.add_api_route("/desk/{token}/chapter.cbz", get_chapter)
    router.add_api_route("/desk/{token}/{place}/{side}", get_page)
    router.add_api_route("/series/{series}/{reference}/{size}", get_reference)
    app.include_router(router)


def _reader(desk: Desk, place: int, side: str) -> Callable[[], bytes]:
    page = desk.pages[place]
    return page.read if side.startswith("grey") else lambda: desk.coloured(page)


def _picture(make: Callable[[], bytes]) -> Response:
    try:
        return Response(make(), media_type="image/webp", headers=FOR_GOOD)
    except (NotFound, InvalidInput, BookError) as error:
        return PlainTextResponse(error.message, 404)
    except PanelhueError as error:
        return PlainTextResponse(error.message, 503)
    except OSError as error:
        return PlainTextResponse(str(error), 404)
