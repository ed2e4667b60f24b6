"""`panelhue backends` and `panelhue info`: what the servers are and can do."""

from __future__ import annotations

import typer

from panelhue.cli.common import (
    COLORIZER_DEFAULT,
    RETRIEVAL_DEFAULT,
    AsJson,
    ColorizerTarget,
    ColorizerToken,
    RetrievalTarget,
    escaped,
    out,
    print_json,
    sized,
    table,
)


def backends(colorizer: ColorizerTarget = COLORIZER_DEFAULT, token: ColorizerToken = "", json: AsJson = False) -> None:
    """Lists the colouriser's back-ends with what they want, cost and allow."""
    from panelhue.colorizer_client import ColorizerClient

    with ColorizerClient(colorizer, token=token) as client:
        cards = client.backends()
    if json:
        print_json(cards)
        return
    for card in cards:
        title = f"[bold]{escaped(card.name)}[/] {escaped(card.version)}" + (" (default)" if card.is_default else "")
        rows = table("", "", title=title)
        rows.show_header = False
        for key, value in {
            "what": card.description,
            "usable": "yes" if card.available else f"no: {card.unavailable_reason}",
            "makes use of": ", ".join(card.inputs) or "nothing but the page",
            "pages": f"sides from {card.min_side} px, up to {card.max_pixels / 1e6:.1f} megapixels",
            "hits per corner": card.hits_per_corner,
            "device, memory": f"{card.device}, about {sized(card.memory_bytes)}",
            "same seed": card.determinism.name.lower(),
            "keeps the page's luma": "yes" if card.keeps_luma else "no",
            "steps": card.default_steps or "none to choose",
            "licence of the code": card.code_licence,
            "licence of the weights": card.weights_licence or "no weights",
            "weights": ", ".join(f"{name} {digest[:12]}" for name, digest in card.weights_sha256.items()) or "–",
            "parameters": "; ".join(f"{name}: {text}" for name, text in sorted(card.parameters.items())) or "–",
        }.items():
            rows.add_row(key, escaped(value))
        out().print(rows)


def info(
    retrieval: RetrievalTarget = RETRIEVAL_DEFAULT,
    colorizer: ColorizerTarget = COLORIZER_DEFAULT,
    token: ColorizerToken = "",
    json: AsJson = False,
) -> None:
    """Shows versions, limits and load of both servers. Exits with 3 if one of them does not answer."""
    from importlib.metadata import version

    from panelhue.colorizer_client import ColorizerClient
    from panelhue.errors import Unavailable
    from panelhue.retrieval_client import RetrievalClient

    found: dict[str, object] = {"client": {"version": version("panelhue")}}
    away = []
    with RetrievalClient(retrieval) as one, ColorizerClient(colorizer, token=token) as other:
        for name, ask in (("retrieval", one.info), ("colorizer", other.info)):
            try:
                found[name] = ask()
            except Unavailable as error:
                away.append(error)
                found[name] = {"error": error.message}
    if json:
        print_json(found)
    else:
        _show(found, {"retrieval": retrieval, "colorizer": colorizer})
    if away:
        raise typer.Exit(3)


def _show(found: dict[str, object], targets: dict[str, str]) -> None:
    from dataclasses import asdict, is_dataclass

    for name, facts in found.items():
        rows = table("", "", title=f"[bold]{name}[/] {escaped(targets.get(name, ''))}")
        rows.show_header = False
        fields = asdict(facts) if is_dataclass(facts) and not isinstance(facts, type) else facts
        assert isinstance(fields, dict)
        for key, value in fields.items():
            shown = sized(value) if key.endswith("_bytes") else ", ".join(value) if isinstance(value, tuple) else value
            rows.add_row(str(key).replace("_", " "), escaped(shown))
        out().print(rows)
