"""The group of all commands: finds those of other rooms, and turns every error into a sentence and an exit code."""

from __future__ import annotations

import os
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperGroup

GROUP = "panelhue.commands"
HINTS = {  # by the reason of an error that a server answered with
    "NO_SUCH_SERIES": "`panelhue series list` shows what is there; `series create NAME` or `ingest --create` makes one",
    "NO_SUCH_REFERENCE": "`panelhue series references NAME` lists what its pool holds",
}


def installed() -> dict[str, EntryPoint]:
    """Commands of other rooms, by name."""
    return {point.name: point for point in entry_points(group=GROUP)}


def loaded(point: EntryPoint) -> Any:
    """The command of an entry point, a function or a Typer with commands of its own.

    One that cannot be loaded becomes a command that says why, and exits with 4.
    """
    try:
        found = point.load()
        if isinstance(found, typer.Typer):  # commands of its own under one name
            command = typer.main.get_command(found)
        else:
            lone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            lone.command(name=point.name)(found)
            command = typer.main.get_command(lone)
    except Exception as error:  # whatever it is, the other commands go on
        return _broken(point, error)
    command.name = point.name
    return command


def _broken(point: EntryPoint, error: Exception) -> Any:
    why = f"{type(error).__name__}: {error}"

    def broken(rest: list[str] = typer.Argument(None, hidden=True)) -> None:  # noqa: ARG001, B008 - typer's way
        from panelhue.cli.common import complain

        complain(f"the command {point.name} ({point.value}) cannot be loaded: {why}")
        raise typer.Exit(4)

    lone = typer.Typer(add_completion=False)
    lone.command(name=point.name, help=f"Cannot be loaded: {why}", context_settings={"ignore_unknown_options": True})(
        broken
    )
    command = typer.main.get_command(lone)
    command.name = point.name
    return command


def _said(error: OSError | UnicodeError) -> str:
    """What the system says, without its number."""
    if not isinstance(error, OSError) or not error.strerror or error.filename is None:
        return str(error)
    return f"{os.fsdecode(error.filename)}: {error.strerror[:1].lower()}{error.strerror[1:]}"


class PanelhueGroup(TyperGroup):
    """The top of the tree."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All names: our own in their order, then those of other rooms."""
        own = super().list_commands(ctx)
        return own + sorted(set(installed()) - set(own))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One command; only now is another room's code imported."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        point = installed().get(cmd_name)
        return loaded(point) if point is not None else None

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Runs everything; Ctrl-C ends it with 130 wherever it comes, also where a question is being asked."""
        try:
            return super().main(*args, **kwargs)
        except SystemExit as error:
            from panelhue.cli.interrupts import comes_from_interrupt

            if error.code == 1 and comes_from_interrupt(error):
                raise SystemExit(130) from error
            raise

    def invoke(self, ctx: Any) -> Any:
        """Runs the command; errors become a sentence on standard error, an exit code, and JSON if asked for."""
        from panelhue.cli.faults import told_as_json

        begun = ctx._protected_args if hasattr(ctx, "_protected_args") else ctx.protected_args  # by click's version
        with told_as_json([*begun, *ctx.args]):
            return self._invoked(ctx)

    def _invoked(self, ctx: Any) -> Any:
        from panelhue.cli.common import complain
        from panelhue.errors import BookError, PanelhueError, Unauthenticated, Unavailable, UsageError

        try:
            return super().invoke(ctx)
        except PanelhueError as error:
            complain(error.explained())
            hint = HINTS.get(error.reason)
            if isinstance(error, Unavailable):
                hint = "start the servers with `panelhue up`, or name them with --retrieval and --colorizer"
            if isinstance(error, Unauthenticated):
                hint = "say the colouriser's token in PANELHUE_COLORIZER_TOKEN, or by --token"
            if hint:
                complain(hint, hint=True)
            code = 2 if isinstance(error, UsageError | BookError) else 3 if isinstance(error, Unavailable) else 4
            raise typer.Exit(code) from error
        except BrokenPipeError:
            raise  # nobody reads on, which is no fault
        except (OSError, UnicodeError) as error:  # a disk that is full, a folder that may not be written, a name
            complain(f"{_said(error)}; what was finished until then is kept")
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            complain("interrupted")
            raise typer.Exit(130) from error
