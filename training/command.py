"""The commands `panelhue train …`, one per recipe; importing this module imports nothing heavy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from inspect import Parameter, Signature, signature
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from training.options import Report, Start

train_app = typer.Typer(
    name="train",
    help="Trains the models of this project, and the colour guider's parts on a user's base weights.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

NEEDED = ("torch", "safetensors", "onnx", "diffusers", "peft")  # what the extra `train` brings
COLORFLOW = ("transformers", "platformdirs")  # and what the extra `colorflow` brings besides


def _every(
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="Pictures by story: a folder with manifest.json.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Checkpoints, curve and the finished model.")],
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Minutes of training, counted over resumes.", show_default="no limit")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Optimiser steps in all.", show_default="the recipe's own number")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")] = 0,
    device: Annotated[str, typer.Option(help='"auto" (a GPU where there is one), "cpu", "cuda", "cuda:1" …')] = "auto",
    again: Annotated[
        bool | None,
        typer.Option(
            "--resume/--fresh",
            help="Go on with the run in --out, which must be there, or put what is there aside and begin anew.",
            show_default="go on where there is something",
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON at the end, and nothing else on standard output.")
    ] = False,
) -> dict[str, Any]:
    """What every recipe is asked: the fields of `Options`, and `json`."""
    start: Start = "auto" if again is None else "resume" if again else "fresh"
    asked = {"data": data, "out": out, "minutes": minutes, "steps": steps, "seed": seed, "device": device}
    return {**asked, "start": start, "json": json}


def _colorflow(
    base: Annotated[
        Path,
        typer.Option(metavar="DIR", help="A model folder as the back-end colorflow has it, the base model inside."),
    ],
    style: Annotated[str, typer.Option(help="gray (Stable Diffusion 1.5), sketch or shading (PixArt).")] = "gray",
    size: Annotated[
        str | None,
        typer.Option(metavar="WxH", help="Of a page in the canvas, multiples of 16.", show_default="640x640"),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Pages per step, one after the other.", show_default="1")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Of the optimiser.", show_default="the recipe's own")] = None,
    warm_up: Annotated[
        int | None, typer.Option(min=0, help="Steps over which the rate grows.", show_default="500")
    ] = None,
    begin: Annotated[
        str | None, typer.Option(help="base, or published: go on from what --base holds.", show_default="base")
    ] = None,
    guides: Annotated[
        str | None,
        typer.Option(help="drawn, or networks: the back-end's own, which --base holds.", show_default="drawn"),
    ] = None,
    precision: Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.", show_default="auto")] = None,
    repeat: Annotated[
        int | None, typer.Option(min=0, help="Draw the same so many steps again and again, as a trial.")
    ] = None,
    accept_licence: Annotated[
        bool,
        typer.Option("--accept-licence", help="My use of the published weights is non-commercial, by their terms."),
    ] = False,
) -> dict[str, Any]:
    """What both of ColorFlow's recipes are asked besides, by name."""
    return locals()


def _asking(*groups: Callable[..., dict[str, Any]]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the options of these groups: what each makes of its own is an argument before the others."""

    def with_options(command: Callable[..., None]) -> Callable[..., None]:
        own = list(signature(command, eval_str=True).parameters.values())[len(groups) :]
        theirs = [list(signature(group, eval_str=True).parameters.values()) for group in groups]

        def asked(**given: Any) -> None:
            made = [
                group(**{one.name: given.pop(one.name) for one in options})
                for group, options in zip(groups, theirs, strict=True)
            ]
            command(*made, **given)

        options = [one.replace(kind=Parameter.KEYWORD_ONLY) for one in (*chain(*theirs), *own)]
        options.sort(key=lambda one: one.default is not Parameter.empty)  # what must be given comes first
        asked.__signature__ = Signature(options)  # type: ignore[attr-defined]  # where typer looks
        asked.__name__, asked.__doc__ = command.__name__, command.__doc__
        return asked

    return with_options


@train_app.command()
@_asking(_every)
def patchnet(asked: dict[str, Any]) -> None:
    """The patch encoder, which finds a grey patch's colour twin."""
    _run("training.patchnet.recipe", asked)


@train_app.command()
@_asking(_every)
def incontext(asked: dict[str, Any]) -> None:
    """The in-context colouriser, which colours a page from retrieved patches."""
    _run("training.incontext.recipe", asked)


@train_app.command()
@_asking(_every, _colorflow)
def guider(
    asked: dict[str, Any],
    shared: dict[str, Any],
    rank: Annotated[int | None, typer.Option(min=1, help="Of the LoRA.", show_default="64; PixArt: 128")] = None,
    mu: Annotated[float | None, typer.Option(help="Timestep shift.", show_default="1.5")] = None,
    quarters: Annotated[
        float | None, typer.Option(help="Share of canvases of which a quarter is seen.", show_default="0.5")
    ] = None,
    around: Annotated[
        float | None, typer.Option(help="Weight of the loss around the page, 0 to 1.", show_default="0")
    ] = None,
    ranking: Annotated[
        str | None, typer.Option(help="structure (retrieved) or random references.", show_default="structure")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keeps the prompts' embeddings.", show_default="within --out")
    ] = None,
) -> None:
    """ColorFlow's colour guider and the LoRA of its backbone, on a base model's weights."""
    own = {"rank": rank, "mu": mu, "quarters": quarters, "around": around, "ranking": ranking, "prompts": prompts}
    _run_colorflow("guider", shared | own, asked)


@train_app.command()
@_asking(_every, _colorflow)
def gsrp(
    asked: dict[str, Any],
    shared: dict[str, Any],
    crop: Annotated[
        int | None, typer.Option(min=0, help="Side of the square that a step sees, pixels; 0: all.", show_default="384")
    ] = None,
    edges: Annotated[float | None, typer.Option(help="Weight of the loss on edges.", show_default="1")] = None,
) -> None:
    """The fusion network of ColorFlow's refinement, under a base model's VAE."""
    _run_colorflow("fusion", shared | {"crop": crop, "edges": edges}, asked)


def _run_colorflow(which: str, own: dict[str, Any], asked: dict[str, Any]) -> None:
    def settings() -> Any:
        from training.colorflow.settings import FusionSettings, GuiderSettings, checked, size_of

        if own["size"] is not None:
            own["size"] = size_of(own["size"])
        return checked(GuiderSettings if which == "guider" else FusionSettings, own)

    _run(f"training.colorflow.{which}_recipe", asked, settings, COLORFLOW)


def _run(
    module: str,
    asked: dict[str, Any],
    settings: Callable[[], Any] | None = None,
    also: tuple[str, ...] = (),
) -> None:
    """Trains by the recipe in that module, with progress on standard error.

    Args:
        module: has `train(options)`, or `train(options, settings)` where `settings` is given.
        asked: the fields of `Options`, and `json`: whether the end is told as JSON.
        settings: makes the recipe's own settings; refused ones are told before anything heavy is imported.
        also: libraries that it needs besides NEEDED.
    """
    as_json = asked.pop("json")
    with _explained():
        _require_extra(also)
        from training.options import Options

        own = (settings(),) if settings else ()
        recipe = import_module(module)
        with _watched() as report:
            recipe.train(Options(**asked, report=report), *own)
    typer.echo(json.dumps({"out": str(asked["out"])}) if as_json else f"done: {asked['out']}")


def _require_extra(also: tuple[str, ...]) -> None:
    from serving.errors import FailedState

    if missing := [name for name in (*NEEDED, *also) if find_spec(name) is None]:
        extra = "train,colorflow" if also else "train"
        message = f"training needs {', '.join(missing)}, not installed here: pip install 'panelhue[{extra}]'"
        raise FailedState(message, reason="EXTRA_MISSING")


@contextmanager
def _watched() -> Iterator[Callable[[Report], None]]:
    """A listener that shows a bar on a terminal, and elsewhere a line at most every 10 seconds."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, *times, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("starting", total=1.0)
        said = [float("-inf")]

        def report(one: Report) -> None:
            line = f"step {one.step}" + "".join(f"  {name} {value:.4g}" for name, value in one.values.items())
            if console.is_terminal:
                progress.update(task, completed=_share(one), description=line)
            elif one.seconds - said[0] >= 10:
                said[0] = one.seconds
                typer.echo(f"{one.seconds:.0f} s  {line}", err=True)

        yield report


def _share(report: Report) -> float:
    by_steps = report.step / report.steps if report.steps else 0.0
    by_time = report.seconds / report.budget if report.budget else 0.0
    return min(1.0, max(by_steps, by_time))


@contextmanager
def _explained() -> Iterator[None]:
    """Turns errors into a sentence on standard error and an exit code: 130 stopped and saved, 2 anything else."""
    from serving.errors import Cancelled, ServiceError

    try:
        yield
    except Cancelled as error:
        typer.echo(error.message, err=True)
        raise typer.Exit(130) from error
    except ServiceError as error:
        typer.echo(f"error: {error.message}", err=True)
        raise typer.Exit(2) from error
