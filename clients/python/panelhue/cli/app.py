"""The command's tree: its own commands, and those of other rooms by entry point."""

from __future__ import annotations

import typer

import panelhue.cli.hygiene
import panelhue.cli.transfer
import panelhue.cli.upkeep  # noqa: F401 - all three add their commands to series_app
from panelhue.cli.colorize import colorize
from panelhue.cli.doctor import doctor
from panelhue.cli.group import PanelhueGroup
from panelhue.cli.info import backends, info
from panelhue.cli.ingest import ingest
from panelhue.cli.review import review
from panelhue.cli.series import series_app
from panelhue.cli.sheet import sheet
from panelhue.cli.snapshots import backup
from panelhue.cli.studio import studio
from panelhue.cli.up import up
from panelhue.cli.watch import watch

EPILOG = (
    "Exit codes: 0 done; 1 done, but not all: some pages failed or were rejected, or something is wrong; "
    "2 wrong usage, or a book or file that cannot be used; 3 no server answers; 4 a server refused; "
    "130 interrupted, by Ctrl-C or SIGTERM: the same command goes on."
)

app = typer.Typer(
    name="panelhue",
    cls=PanelhueGroup,
    help="Colourises long comic and manga series and remembers them.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(up)
app.add_typer(series_app, name="series")
app.command()(backup)
app.command()(ingest)
app.command()(colorize)
app.command()(watch)
app.command()(review)
app.command()(sheet)
app.command()(backends)
app.command()(info)
app.command()(doctor)
app.command()(studio)
