"""The commands `panelhue weights check` and `panelhue weights fetch`; importing this module imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from colorizer.backends.colorflow.files import Home, Part
    from colorizer.backends.colorflow.sources import Source
    from colorizer.backends.colorflow.weights import Report

weights_app = typer.Typer(
    name="weights",
    help="Checks and fetches the published weights of the back-end colorflow.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Styles = Annotated[
    list[str] | None, typer.Option("--style", help="gray, sketch or shading; may be given often.", show_default="all")
]
Bases = Annotated[
    list[str] | None,
    typer.Option(
        "--base",
        metavar="sd=SOURCE|pixart=SOURCE",
        help="Folder in diffusers' layout, or hub name, of a base model; may be given often.",
        show_default="the folder of its name inside DIR, then the hub cache",
    ),
]


@weights_app.command()
def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder in the layout of the published models.")],
    style: Styles = None,
    base: Bases = None,
    text: Annotated[bool, typer.Option(help="Look at text encoders and tokenizers too.")] = True,
    sums: Annotated[bool, typer.Option(help="Compute sha256; remembered until a file changes.")] = True,
    cache: Annotated[
        Path | None, typer.Option(help="Folder in which sums are remembered.", show_default="the user's cache folder")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON with every key, and nothing else.")] = False,
) -> None:
    """Says for every file whether it is there and has exactly the keys it must have, with its sha256 and licence.

    Nothing is loaded, downloaded or sent anywhere. Exit code 1: something is missing or wrong.
    """
    with _explained():
        reports, chosen = _reports(folder, style, base, text=text)
        digests = _digests(reports, cache if cache is not None else cache_folder()) if sums else {}
    runnable = {name: _runs(name, reports) for name in chosen}
    if json:
        typer.echo(_json(_as_json(reports, digests, runnable)))
    else:
        _print(reports, digests, runnable)
    if not all(report.ok for report in reports if report.part.need != "unused"):
        raise typer.Exit(1)


@weights_app.command()
def fetch(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; base models become folders inside.")],
    style: Styles = None,
    model: Annotated[
        str, typer.Option(help="Hub name of the published models.", show_default="TencentARC/ColorFlow")
    ] = "",
    base: Annotated[
        list[str] | None,
        typer.Option("--base", metavar="sd=NAME|pixart=NAME", help="Hub name of a base model; may be given often."),
    ] = None,
    text: Annotated[
        bool, typer.Option(help="Fetch text encoders too; T5-XXL is by far the largest file (19 GB).")
    ] = True,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="I have read the licences below, and my use is non-commercial.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print where everything is as JSON, and nothing else.")] = False,
) -> None:
    """Downloads the weights into a folder, after showing sizes and licences; what is there already stays.

    Interrupted, it goes on where it stopped when it is started again. HF_HUB_OFFLINE, HF_ENDPOINT, HF_TOKEN and the
    proxy variables are respected.
    """
    from colorizer.backends.colorflow.files import parts_of
    from colorizer.backends.colorflow.sources import Hub

    with _explained():
        parts = parts_of(style or _all_styles(), text=text)
        homes = fetched(Hub(), folder, parts, hub_names(model, base), accepted=accept_licence)
    if json:
        typer.echo(_json({"folder": str(folder), "homes": {home: str(path) for home, path in homes.items()}}))
        return
    typer.echo(f"everything is in {folder}; `panelhue weights check {folder}` looks at every key")


def fetched(
    source: Source, folder: Path, parts: Sequence[Part], names: Mapping[Home, str], *, accepted: bool
) -> dict[Home, Path]:
    """Downloads the parts into the folder, the base models into folders of their names inside; says what and whose.

    Args:
        source: the hub.
        folder: made if need be.
        parts: what is wanted.
        names: of the repositories.
        accepted: whether the user has accepted the licences; if not, nobody is asked for anything.

    Raises:
        FailedState: LICENCE_NOT_ACCEPTED.
        NotFound: a repository lacks a part.
        Unavailable: the hub cannot be used.
    """
    from colorizer.backends.colorflow.files import ACCEPTED, require_acceptance
    from colorizer.backends.colorflow.sources import base_folder_name, chosen
    from serving.errors import FailedState, NotFound

    console = _console(stderr=True)
    console.print(_licence_table(parts))
    _print_terms(console, parts)
    try:
        require_acceptance(ACCEPTED if accepted else "")
    except FailedState as error:
        message = f"{error.message}; here that is the flag --accept-licence"
        raise FailedState(message, reason=error.reason) from error
    plan: dict[Home, dict[str, int]] = {}
    for home in dict.fromkeys(part.home for part in parts):
        own = [part for part in parts if part.home == home]
        plan[home] = chosen(own, source.sizes(names[home]))
        if lacking := [part for part in own if not _is_in(part, plan[home])]:
            wanted = "; ".join(f"{part.name}: {part.folder or '.'}/{part.names[-1]}" for part in lacking)
            raise NotFound(f"the repository {names[home]} lacks {wanted}", reason="MODEL_INCOMPLETE")
    for home, files in plan.items():
        console.print(f"{names[home]}: {len(files)} files, {_sized(sum(files.values()))}", markup=False)
    return {
        home: source.download(
            names[home], sorted(files), folder if home == "model" else folder / base_folder_name(home)
        )
        for home, files in plan.items()
    }


def hub_names(model: str, base: Sequence[str] | None) -> dict[Home, str]:
    """The repository of each home: what was given, or the usual one.

    Raises:
        InvalidInput: a base is not written "sd=NAME" or "pixart=NAME".
    """
    from colorizer.backends.colorflow.files import BASE_HUBS, MODEL_HUB

    return {"model": model or MODEL_HUB, **BASE_HUBS, **_sources(base)}


def cache_folder() -> Path:
    """Our folder for things that can be computed again."""
    from platformdirs import user_cache_path

    return user_cache_path("panelhue", appauthor=False)


def _all_styles() -> list[str]:
    from colorizer.backends.colorflow.styles import STYLES

    return list(STYLES)


def _sources(base: Sequence[str] | None) -> dict[Home, str]:
    from serving.errors import InvalidInput

    found: dict[Home, str] = {}
    for text in base or ():
        home, _, source = text.partition("=")
        if home == "sd" and source:
            found["sd"] = source
        elif home == "pixart" and source:
            found["pixart"] = source
        else:
            raise InvalidInput(f'a base is written "sd=SOURCE" or "pixart=SOURCE", got "{text}"')
    return found


def _reports(
    folder: Path, style: Sequence[str] | None, base: Sequence[str] | None, *, text: bool
) -> tuple[tuple[Report, ...], list[str]]:
    from serving.errors import FailedState

    try:
        from colorizer.backends.colorflow.weights import Folder
    except ImportError as error:
        raise FailedState(f"keys cannot be checked: {error}; install the extra panelhue[colorflow]") from error
    chosen = list(dict.fromkeys(style or _all_styles()))
    opened = Folder.open(folder, bases=_sources(base), styles=chosen, text=text)
    return opened.check(chosen, text=text, unused=True), chosen


def _digests(reports: Sequence[Report], cache: Path) -> dict[Path, str]:
    from colorizer.backends.colorflow.sources import Sums

    known = Sums(cache)
    return {path: known.of(path) for report in reports for path in report.found.weights}


def _runs(style: str, reports: Sequence[Report]) -> bool:
    """Whether everything that the style cannot do without is right; text encoders can be replaced by embeddings."""
    return all(report.ok for report in reports if style in report.part.styles and report.part.need == "needed")


def _is_in(part: Part, files: Mapping[str, int]) -> bool:
    folder = f"{part.folder}/" if part.folder else ""
    return any(folder + name in files for name in part.names) and all(folder + name in files for name in part.also)


def _as_json(reports: Sequence[Report], digests: Mapping[Path, str], runnable: Mapping[str, bool]) -> dict[str, Any]:
    from colorizer.backends.colorflow.files import LICENCES

    parts = [
        {
            "name": report.part.name,
            "what": report.part.what,
            "need": report.part.need,
            "styles": list(report.part.styles),
            "present": bool(report.found.weights),
            "ok": report.ok,
            "keys_checked": report.checked,
            "problems": list(report.problems),
            "missing_keys": list(report.difference.missing),
            "extra_keys": list(report.difference.extra),
            "misshaped_keys": list(report.difference.misshaped),
            "files": [
                {"path": str(path), "bytes": path.stat().st_size, "sha256": digests.get(path, "")}
                for path in report.found.weights
            ],
            "dtypes": list(report.dtypes),
            "parameters": report.parameters,
            "licence": {"name": LICENCES[report.part.licence].name, "terms": LICENCES[report.part.licence].terms},
        }
        for report in reports
    ]
    return {"styles": dict(runnable), "parts": parts}


def _print(reports: Sequence[Report], digests: Mapping[Path, str], runnable: Mapping[str, bool]) -> None:
    from rich.markup import escape

    from colorizer.backends.colorflow.weights import grouped

    console = _console()
    rows = _table("part", "file", "keys", "size", "type", "sha256")
    for report in reports:
        found, part = report.found, report.part
        if part.need == "unused" and not found.weights:
            continue
        cells = (
            part.name,
            found.weights[0].name if found.weights else "missing",
            _keys_cell(report),
            _sized(found.bytes) if found.weights else "–",
            "+".join(report.dtypes) or "–",
            " ".join(digests[path][:12] for path in found.weights if path in digests) or "–",
        )
        rows.add_row(*(escape(cell) for cell in cells), style=_colour(report))
    console.print(rows)
    for sentence, names in grouped((report for report in reports if report.part.need != "unused"), None).items():
        console.print(f"{', '.join(names)}: {sentence}", style="red", markup=False, soft_wrap=True)
    _print_terms(console, [report.part for report in reports if report.found.weights])
    can = [name for name, runs in runnable.items() if runs]
    cannot = [name for name, runs in runnable.items() if not runs]
    lines = f"styles that can run: {', '.join(can) or 'none'}"
    console.print(lines + (f"; that cannot: {', '.join(cannot)}" if cannot else ""), soft_wrap=True)


def _keys_cell(report: Report) -> str:
    if report.part.need == "unused":
        return "not used"
    if not report.found.weights:
        return "–"
    if not report.ok:
        return "wrong"
    return "ok" if report.checked else "–"


def _colour(report: Report) -> str:
    if report.part.need == "unused":
        return "dim"
    return "" if report.ok else "red"


def _print_terms(console: Console, parts: Sequence[Part]) -> None:
    from colorizer.backends.colorflow.files import LICENCES

    for licence in dict.fromkeys(LICENCES[part.licence] for part in parts):
        names = ", ".join(part.name for part in parts if LICENCES[part.licence] == licence)
        console.print(f"licence of {names}:\n  {licence.name}: {licence.terms}", markup=False, soft_wrap=True)


def _licence_table(parts: Sequence[Part]) -> Any:
    from rich.markup import escape

    from colorizer.backends.colorflow.files import LICENCES

    rows = _table("part", "size, about", "what", "licence")
    for part in parts:
        about = _sized(part.megabytes * 10**6) if part.megabytes else "small"
        rows.add_row(*map(escape, (part.name, about, part.what, LICENCES[part.licence].name)))
    rows.add_row("together", _sized(sum(part.megabytes for part in parts) * 10**6))
    return rows


def _table(*columns: str) -> Any:
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def _sized(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _json(value: object) -> str:
    import json

    return json.dumps(value, indent=2, ensure_ascii=False)


@contextmanager
def _explained() -> Iterator[None]:
    """Turns errors into a sentence on standard error and an exit code: 2 wrong usage, 3 no hub, 4 refused."""
    from serving.errors import InvalidInput, ServiceError, Unavailable

    try:
        yield
    except ServiceError as error:
        _console(stderr=True).print(f"error: {error.message}", style="bold red", markup=False, soft_wrap=True)
        code = 2 if isinstance(error, InvalidInput) else 3 if isinstance(error, Unavailable) else 4
        raise typer.Exit(code) from error
