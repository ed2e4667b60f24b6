"""Writes the JSON behind docs/BENCHMARKS.md: figures with the command, machine, commit and date they come from."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _short(argument: str) -> str:
    """The argument, of an absolute path only the name."""
    return Path(argument).name if argument.startswith("/") else argument


def _git(root: Path, *arguments: str) -> str:
    """What git says; nothing where there is no git, as on a machine that was given a bare copy."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def meta() -> dict[str, str]:
    """Command, machine, commit and date of this run; no host name, no absolute path."""
    root = Path(__file__).resolve().parents[1]
    spec = sys.modules["__main__"].__spec__
    program = f"python -m {spec.name}" if spec else Path(sys.argv[0]).name
    commit = _git(root, "rev-parse", "--short", "HEAD")
    changed = _git(
        root, "status", "--porcelain", "--untracked-files=no", "--", "retrieval", "colorizer", "serving", "clients"
    )
    cores = len(os.sched_getaffinity(0))
    return {
        "command": " ".join(
            [program.removesuffix(".__main__"), *(shlex.quote(_short(argument)) for argument in sys.argv[1:])]
        ),
        "machine": f"{_cpu()}, {cores} cores, Python {platform.python_version()}, {platform.system()}",
        "commit": commit + (" with uncommitted changes" if changed else ""),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def write_results(
    name: str,
    results: dict[str, Any] | list[dict[str, Any]],
    *,
    folder: Path = RESULTS,
    facts: Mapping[str, str] | None = None,
    under: str = "results",
) -> Path:
    """Writes `results` as NAME.json and gives its path.

    Figures are rounded to four decimals, those below 1 to four digits.

    Args:
        name: of the file, without its ending.
        results: numbers and texts, nested.
        folder: made if need be.
        facts: entries that replace those of `meta`, such as a machine that is more than its CPU.
        under: the key that the figures stand under.
    """
    path = folder / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps({"meta": meta() | dict(facts or {}), under: _rounded(results)}, indent=1) + "\n")
    draft.replace(path)  # a run that is stopped leaves the figures of before
    return path


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4) if abs(value) >= 1 else float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    return [_rounded(entry) for entry in value] if isinstance(value, list | tuple) else value
