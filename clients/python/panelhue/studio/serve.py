"""Runs the studio: one process, one address, and a folder that is gone at the end."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from panelhue.errors import UsageError
from panelhue.studio.visitors import Public, names_of, public_of

if TYPE_CHECKING:
    from panelhue.studio.desks import Desks
    from panelhue.studio.servers import Servers

PREFIX = "panelhue-studio-"


@dataclass(frozen=True)
class Door:
    """By which names the studio may be called."""

    names: Sequence[str]  # none: by any
    public: Public | None  # where a proxy offers it


def serve(
    host: str,
    port: int,
    retrieval: str,
    colorizer: str,
    token: str = "",
    *,
    upload_bytes: int,
    started: Callable[[str], None],
    public_url: str = "",
    allowed: Sequence[str] = (),
) -> None:
    """Serves until it is interrupted.

    Args:
        host: address to listen on.
        port: 0: a free one.
        retrieval: address of the retrieval server; need not answer yet.
        colorizer: address of the colouriser server; need not answer yet.
        token: what the colouriser asks for; "": nothing.
        upload_bytes: the largest file that a browser may send.
        started: is told the page's address once it can be opened.
        public_url: where a proxy offers it; "": nowhere. The page then works there alone.
        allowed: names by which that proxy may call it, beside those of this machine and of the public URL.

    Raises:
        UsageError: the address is taken or not this machine's, or the public URL is none.
    """
    public = public_of(public_url) if public_url else None
    door = Door(names_of(host, public, allowed), public)
    listening = _listening(host, port)
    root = Path(tempfile.gettempdir()) / f"{PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
    try:
        root.mkdir(mode=0o700)  # within the block, so that no interrupt comes between it and its end
        _sweep(root.parent)
        # gradio reads these at import; nothing of it was imported before.
        os.environ["GRADIO_TEMP_DIR"] = str(root / "uploads")
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ["HF_HUB_OFFLINE"] = "1"
        from panelhue.studio.servers import Servers

        with Servers(retrieval, colorizer, token) as servers:
            _run(listening, root, servers, upload_bytes, started, door)
    except KeyboardInterrupt:
        pass
    finally:
        listening.close()
        shutil.rmtree(root, ignore_errors=True)


def _run(
    listening: socket.socket,
    root: Path,
    servers: Servers,
    upload_bytes: int,
    started: Callable[[str], None],
    door: Door,
) -> None:
    from panelhue.studio.desks import Desks

    desks = Desks(root)
    try:
        asyncio.run(_served(listening, servers, desks, upload_bytes, started, door))
    finally:
        desks.close()


async def _served(
    listening: socket.socket,
    servers: Servers,
    desks: Desks,
    upload_bytes: int,
    started: Callable[[str], None],
    door: Door,
) -> None:
    # The page is built here as gradio makes a loop of its own for every lock, and closes none, where no loop runs.
    import uvicorn

    from panelhue.studio.application import application

    host, port = listening.getsockname()[:2]
    app = application(servers, desks, upload_bytes, host, port, door.names, door.public)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1, lifespan="on")
    own = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    started(f"{door.public.url if door.public is not None else own}/")
    await uvicorn.Server(config).serve(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(128)  # whoever comes before the page is ready waits
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"the studio cannot listen on {host}:{port} ({why}); choose another --port") from error
    return made


def _sweep(folder: Path) -> None:
    """Removes what studios left behind that were killed."""
    for left in folder.glob(f"{PREFIX}*"):
        process = left.name.removeprefix(PREFIX).partition("-")[0]
        if process.isdigit() and not _alive(int(process)):
            shutil.rmtree(left, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
