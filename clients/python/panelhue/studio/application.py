"""The studio as one web application: the page with its handlers, and the addresses beside it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import gradio as gr
from fastapi import FastAPI

from panelhue.studio.chapter_handlers import ChapterHandlers
from panelhue.studio.desks import Desks
from panelhue.studio.look import theme
from panelhue.studio.page import HEAD, RECALL_JS, REMEMBER_JS, REMEMBER_SERIES_JS, Page, build
from panelhue.studio.pool_handlers import PoolHandlers
from panelhue.studio.routes import Guarded, add_routes, asset
from panelhue.studio.servers import Servers
from panelhue.studio.visitors import Public

TABS = 32  # events of one kind at once, over all tabs; each run that is watched takes a place


def application(
    servers: Servers,
    desks: Desks,
    upload_bytes: int,
    host: str,
    port: int,
    names: Collection[str],
    public: Public | None = None,
) -> FastAPI:
    """The application.

    Args:
        servers: both of them.
        desks: of all tabs.
        upload_bytes: largest file that a browser may send.
        host: address that is listened on.
        port: that is listened on.
        names: by which it may be called; others are refused, so that no page of the internet can have its own name lead
            here. None: by any.
        public: where a proxy offers it, if one does; the page then works there alone.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guarded, names=names, public=public)
    add_routes(app, desks, servers.retrieval)
    page = build()
    with page.blocks:
        _wire_shelf(page, PoolHandlers(page, servers, desks))
        _wire_chapter(page, ChapterHandlers(page, servers, desks))
    page.blocks.queue(default_concurrency_limit=TABS, max_size=512, api_open=False)
    mounted: FastAPI = gr.mount_gradio_app(
        app,
        page.blocks,
        path="/",
        root_path=public.url if public is not None else None,
        server_name=host,
        server_port=port,
        footer_links=[],
        run_history=False,
        show_error=True,
        max_file_size=upload_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css=asset("studio.css"),
        head=HEAD,
    )
    return mounted


def _on(listener: Any, handler: Any, inputs: list[Any], outputs: list[Any], **more: Any) -> Any:
    """An event that is answered without gradio's own spinner, and offered to no program."""
    return listener(handler, inputs, outputs, show_progress="hidden", api_visibility="private", **more)


def _wire_shelf(page: Page, handlers: PoolHandlers) -> None:
    filters = [page.wall_chapters, page.wall_origin]
    shelf = [page.notice, page.wall, page.palette]
    chapter = [page.strip, page.viewer, page.download, page.progress]
    reloaded = [page.head, page.series, page.backend, *shelf, *chapter]
    loaded = _on(
        page.blocks.load,
        handlers.load,
        [page.stored, page.stored_series],
        [page.token, page.stored, *reloaded],
        js=RECALL_JS,
    )
    loaded.then(None, [page.stored], None, js=REMEMBER_JS, api_visibility="private")
    watcher = ChapterHandlers(page, handlers.servers, handlers.desks)
    _on(loaded.then, watcher.watch, [page.token, page.series], [page.notice, *chapter, page.colour, page.stop])
    _on(page.reload.click, handlers.reload, [page.token, page.series], reloaded)
    page.series.change(None, [page.series], None, js=REMEMBER_SERIES_JS, api_visibility="private")
    _on(page.series.input, handlers.choose, [page.series, *filters], [*shelf, page.drift])
    _on(page.create.click, handlers.create, [page.new_series], [page.series, page.new_series, *shelf])
    _on(page.new_series.submit, handlers.create, [page.new_series], [page.series, page.new_series, *shelf])
    files = [page.token, page.series, page.pool_files, page.pool_chapter, *filters]
    _on(page.add.click, handlers.add, files, [page.pool_files, *shelf])
    _on(page.wall.remove, handlers.remove, [page.series, *filters], shelf)
    _on(page.wall_chapters.submit, handlers.filtered, [page.series, *filters], [page.notice, page.wall])
    _on(page.wall_origin.input, handlers.filtered, [page.series, *filters], [page.notice, page.wall])
    _on(page.palette.save, handlers.save, [page.token, page.series], [page.notice, page.palette, page.viewer])
    _on(page.measure.click, handlers.measure, [page.series, page.alike], [page.notice, page.drift])


def _wire_chapter(page: Page, handlers: ChapterHandlers) -> None:
    filters = [page.wall_chapters, page.wall_origin]
    tab = [page.token, page.series]
    view = [page.notice, page.progress, page.strip, page.viewer, page.download]
    pooled = [*view, page.wall, page.palette]
    wishes = [page.chapter, page.backend, page.earlier, page.given, page.seed]
    running = [*view, page.colour, page.stop]
    many = {"trigger_mode": "multiple"}
    _on(page.chapter_files.upload, handlers.take, [*tab, page.chapter_files], [*view, page.chapter_files, page.chapter])
    _on(page.colour.click, handlers.colourise, [*tab, *wishes], running)
    _on(page.stop.click, handlers.stop, [page.token], [page.notice])
    _on(page.strip.pick, handlers.pick, tab, [page.notice, page.strip, page.viewer], **many)
    _on(page.viewer.hint, handlers.hint, tab, [page.notice, page.viewer], **many)
    _on(page.viewer.recolour, handlers.recolour, [*tab, *wishes], running)
    _on(page.viewer.act, handlers.act, [*tab, page.chapter, *filters], pooled, **many)
    _on(page.approve_all.click, handlers.approve_all, [*tab, page.chapter, *filters], pooled)
