"""`panelhue doctor`: looks at the installation and says how to mend what is wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from panelhue.cli.common import (
    COLORIZER_DEFAULT,
    RETRIEVAL_DEFAULT,
    AsJson,
    ColorizerTarget,
    ColorizerToken,
    RetrievalTarget,
    data_folder,
    err,
    escaped,
    out,
    print_json,
)

STYLES = {"ok": "green", "warn": "yellow", "bad": "bold red"}


def doctor(
    data: Annotated[
        Path | None,
        typer.Option(
            envvar="PANELHUE_DATA", help="Where `panelhue up` keeps its data. Unset: ~/.local/share/panelhue."
        ),
    ] = None,
    retrieval: RetrievalTarget = RETRIEVAL_DEFAULT,
    colorizer: ColorizerTarget = COLORIZER_DEFAULT,
    token: ColorizerToken = "",
    json: AsJson = False,
) -> None:
    """Looks at versions, GPU, FAISS, weights, data folder, disk, ports and servers, and says how to mend what is wrong.

    Changes nothing. Exits with 1 if something is bad; warnings leave it at 0.
    """
    from panelhue.checkup import Check, Place, State, checks

    # A server that was started by itself has its folder from here.
    pools = os.environ.get("PANELHUE_RETRIEVAL_DATA_DIR")
    place = Place(Path(pools) if pools else (data or data_folder()) / "pools", retrieval, colorizer, token)
    found: list[Check] = []
    with err().status("looking"):
        for check in checks(place):
            found.append(check)
            if not json:
                _show(check)
    bad = sum(check.state is State.BAD for check in found)
    warnings = sum(check.state is State.WARN for check in found)
    if json:
        print_json({"bad": bad, "warnings": warnings, "checks": found})
    else:
        out().print(f"\n{bad} bad, {warnings} warnings, {len(found) - bad - warnings} ok")
    if bad:
        raise typer.Exit(1)


def _show(check: object) -> None:
    from panelhue.checkup import Check

    assert isinstance(check, Check)
    word = check.state.value
    out().print(
        f"[{STYLES[word]}]{word:>4}[/]  [bold]{escaped(check.name)}[/]: {escaped(check.detail)}", soft_wrap=True
    )
    if check.mend:
        out().print(f"      mend: {escaped(check.mend)}", soft_wrap=True)
