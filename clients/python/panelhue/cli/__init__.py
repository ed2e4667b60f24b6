"""The `panelhue` command. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

from panelhue.cli.app import app

__all__ = ["app"]
