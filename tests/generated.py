"""Makes the Python stubs from the protos; with --check, says whether the committed ones are up to date.

protoc writes no `__init__.py`; those are kept by hand. grpcio-tools is pinned to the lowest supported grpcio, because
generated code refuses a runtime older than the one it was made with.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
STUBS = ROOT / "clients" / "python"


def generate(out: Path) -> list[Path]:
    """Writes the stubs below `out` and gives their paths relative to it."""
    sources = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    flags = [f"--{kind}_out={out}" for kind in ("python", "grpc_python", "pyi")]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", "-I", ".", *flags, *sources], cwd=PROTOS, check=True)
    return sorted(path.relative_to(out) for path in out.rglob("*_pb2*") if "__pycache__" not in path.parts)


def main() -> int:
    """0 if the stubs were written or are up to date, 1 if they are stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a stub is stale")
    if not parser.parse_args().check:
        generate(STUBS)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        fresh = generate(Path(folder))
        committed = sorted(p.relative_to(STUBS) for p in STUBS.rglob("*_pb2*") if "__pycache__" not in p.parts)
        stale = [str(p) for p in {*fresh, *committed} if _read(Path(folder) / p) != _read(STUBS / p)]
    for name in sorted(stale):
        print(f"stale: {name}; run `make generate`")
    return 1 if stale else 0


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


if __name__ == "__main__":
    sys.exit(main())
