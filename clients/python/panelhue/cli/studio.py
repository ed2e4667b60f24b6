"""`panelhue studio`: a web page for those who would rather look and click."""

from __future__ import annotations

from typing import Annotated

import typer

from panelhue.cli.common import (
    COLORIZER_DEFAULT,
    RETRIEVAL_DEFAULT,
    AsJson,
    ColorizerTarget,
    ColorizerToken,
    RetrievalTarget,
    escaped,
    note,
    out,
    print_json_line,
)
from panelhue.cli.interrupts import stoppable


def studio(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: a free one.")] = 7860,
    upload_mb: Annotated[int, typer.Option(min=1, help="Largest file that a browser may send, megabytes.")] = 1024,
    public_url: Annotated[
        str,
        typer.Option(
            metavar="URL",
            envvar="PANELHUE_STUDIO_PUBLIC_URL",
            help="Where a reverse proxy offers it, such as https://comics.example/studio.",
        ),
    ] = "",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name by which that proxy calls it, as its Host header says. Repeatable."),
    ] = None,
    retrieval: RetrievalTarget = RETRIEVAL_DEFAULT,
    colorizer: ColorizerTarget = COLORIZER_DEFAULT,
    token: ColorizerToken = "",
    json: AsJson = False,
) -> None:
    """Serves the studio, a web page over both servers, until Ctrl-C.

    Needs the extra `ui`. Nothing is loaded from the internet, and what a browser tab works on is gone half a day after
    it was last touched, or when the studio ends; what was approved is in the pool. With --json
    it prints one line of JSON once the page can be opened.
    """
    from importlib.util import find_spec

    from panelhue.errors import UsageError

    if find_spec("gradio") is None:
        raise UsageError("the studio needs gradio, of the extra `ui`: make studio, or see docs/STUDIO.md")
    from panelhue.studio.serve import serve
    from panelhue.studio.visitors import names_of

    if public_url or not names_of(host):
        where = public_url or host
        note(f"the studio has no passwords: whoever reaches {where} can use it, and the pools behind it")

    def started(address: str) -> None:
        if json:
            print_json_line({"address": address})
            return
        out().print(f"the studio is at [bold]{escaped(address)}[/]; Ctrl-C ends it", soft_wrap=True)

    with stoppable("the studio has ended"):  # SIGTERM and the terminal's end clear away as Ctrl-C does
        serve(
            *(host, port, retrieval, colorizer, token),
            upload_bytes=upload_mb << 20,
            started=started,
            public_url=public_url,
            allowed=allow_host or (),
        )
