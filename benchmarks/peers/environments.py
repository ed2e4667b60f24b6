"""One environment per product, made when it is first needed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

BASE = ("numpy", "psutil")  # what a cell's process needs beside its product


def python_of(environments: Path, name: str, packages: Sequence[str]) -> Path:
    """The interpreter of a product's environment; without packages the one that runs this.

    Args:
        environments: folder of all environments.
        name: of this one.
        packages: requirements, by name and version.

    Raises:
        RuntimeError: they cannot be installed; the text is pip's last lines.
    """
    if not packages:
        return Path(sys.executable)
    place = environments / name
    python, mark = place / "bin" / "python", place / "installed.txt"
    wanted = "\n".join([*BASE, *packages]) + "\n"
    if mark.exists() and mark.read_text() == wanted:
        return python
    shutil.rmtree(place, ignore_errors=True)
    venv.create(place, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "install", "--quiet"]
    done = subprocess.run([*pip, *BASE, *packages], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(packages)} cannot be installed: {done.stderr.strip()[-300:]}")
    mark.write_text(wanted)
    return python
