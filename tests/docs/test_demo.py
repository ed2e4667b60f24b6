"""The demo runs from end to end, and never needs torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_demo_ends_with_its_figures_and_never_imports_torch(tmp_path: Path) -> None:
    trap = tmp_path / "trap" / "torch" / "__init__.py"
    trap.parent.mkdir(parents=True)
    trap.write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'caught')!r}).touch()\nraise ImportError('torch')\n")
    path = os.pathsep.join([str(tmp_path / "trap"), str(ROOT), str(ROOT / "clients" / "python")])
    command = [sys.executable, "-m", "examples.demo", "--chapters", "2", "--pages", "2", "--width", "240"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "caught").exists()
    assert f"result: {tmp_path / 'out' / 'colour'}" in done.stdout
    assert "CIEDE2000" in done.stdout
    assert (tmp_path / "out" / "colour" / "ch02" / "contact-sheet.html").exists()
