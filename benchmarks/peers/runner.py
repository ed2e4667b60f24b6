"""Runs one cell in processes of its own and reads what it left: the rows of the results file."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.cell import CLIENTS, PER_CALL
from benchmarks.peers.kinds import Kind
from benchmarks.peers.vectors import TOP, Data, recall
from benchmarks.peers.watch import watched

ROOT = Path(__file__).resolve().parents[2]
SECONDS, MEMORY_BYTES, FIGURE_SECONDS = 600.0, 12e9, 5.0
MEASURED = (
    "insert_per_s", "search_p50_ms", "search_p95_ms", "recall_at_3", "bounded_p50_ms", "bounded_p95_ms",
    "bounded_recall_at_3", "restart_to_first_answer_s", "rss_mb", "disk_mb",
)  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """Of one cell."""

    seconds: float = SECONDS
    memory_bytes: float = MEMORY_BYTES
    figure_seconds: float = FIGURE_SECONDS  # of one figure's calls


def environment(kind: Kind) -> dict[str, str]:
    """The variables of a cell's processes: none that set a number of threads or a processor for somebody else."""
    dropped = {"OMP_NUM_THREADS", "VIRTUAL_ENV", "PYTHONHOME"}
    if not kind.own_blas:
        dropped |= {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return kept | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'clients' / 'python'}", "PYTHONUNBUFFERED": "1"}


def run_cell(kind: Kind, data: Data, python: Path, scratch: Path, limits: Limits) -> list[dict[str, Any]]:
    """The cell's rows for the results file, one per number of clients and queries.

    Args:
        kind: product and form.
        data: the pool.
        python: interpreter of the product's environment.
        scratch: emptied before; the product's folder is removed afterwards, logs stay.
        limits: of time and memory.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    out = scratch / "out"
    out.mkdir(parents=True)
    spec = {
        "adapter": kind.adapter, "folder": str(scratch / "data"), "dim": data.dim, "rows": data.rows, "k": TOP,
        "bound": data.bound, "data": str(data.folder), "out": str(out), "options": dict(kind.options),
        "seconds": limits.figure_seconds,
    }  # fmt: skip
    begin = time.monotonic()
    state = "ok"
    for phase in ("fill", "serve"):
        state = _phase(phase, spec, kind, python, scratch, limits, limits.seconds - (time.monotonic() - begin))
        if state != "ok":
            break
    shutil.rmtree(scratch / "data", ignore_errors=True)
    return rows_of(kind, data, out, state, time.monotonic() - begin)


def _phase(
    phase: str, spec: dict[str, Any], kind: Kind, python: Path, scratch: Path, limits: Limits, seconds: float
) -> str:
    """The state after one process."""
    path = scratch / f"{phase}.json"
    path.write_text(json.dumps({**spec, "begun": time.monotonic()}))
    ended = watched(
        [str(python), "-m", "benchmarks.peers.cell", phase, str(path)],
        folder=scratch,
        log=scratch / f"{phase}.log",
        environment=environment(kind),
        seconds=seconds,
        memory_bytes=limits.memory_bytes,
    )
    if ended.state != "ok":
        return ended.state
    out = Path(spec["out"])
    if (trouble := _read(out, "trouble")) is not None:
        return f"failed: {trouble['what']}"
    if _read(out, "filled" if phase == "fill" else "served") is None:
        return f"failed: {phase} ended with {ended.code}; {_last_line(scratch / f'{phase}.log')}"
    return "ok"


def _read(out: Path, name: str) -> dict[str, Any] | None:
    path = out / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no output"


def rows_of(kind: Kind, data: Data, out: Path, state: str, seconds: float) -> list[dict[str, Any]]:
    """The rows from what the processes left in `out`; what was not reached is null.

    A row whose figures were all taken before the cell was stopped is "ok"; the others carry the state.
    """
    inserting, filled = _read(out, "inserting") or {}, _read(out, "filled") or {}
    restarted, served = _read(out, "restarted") or {}, _read(out, "served") or {}
    common: dict[str, Any] = {
        "insert_per_s": inserting["rows"] / inserting["seconds"] if inserting and kind.store else None,
        "restart_to_first_answer_s": restarted.get("seconds"),
        "rss_mb": served.get("rss_mb"),
        "disk_mb": served.get("disk_mb"),
    }
    said = _said(kind, data, inserting, filled, restarted, seconds)
    rows = []
    for clients in CLIENTS:
        for queries in PER_CALL:
            figures, notes, whole = _figures(data, out, clients, queries)
            rows.append(
                {
                    "product": kind.product, "kind": kind.kind, "rows": data.rows, "dim": data.dim,
                    "clients": clients, "queries": queries, "state": "ok" if whole else state,
                    **dict.fromkeys(MEASURED), **common, **figures,
                    "sync": kind.sync, "versions": inserting.get("versions", ""),
                    "notes": "; ".join([*notes, *said]),
                }
            )  # fmt: skip
    return rows


def _said(
    kind: Kind,
    data: Data,
    inserting: Mapping[str, Any],
    filled: Mapping[str, Any],
    restarted: Mapping[str, Any],
    seconds: float,
) -> list[str]:
    said = [kind.note] if kind.note else []
    if inserting and not filled:
        said.append(f"stopped after {inserting['rows']} rows")
    if inserting and not kind.store:
        said.append(f"add() in memory, not durable: {inserting['rows'] / inserting['seconds']:.0f} rows/s")
    if filled.get("settled"):
        said.append(f"then {filled['settled']}: {filled['settle_s']:.1f} s")
    if restarted and restarted["count"] != data.rows:
        said.append(f"{restarted['count']} rows after SIGKILL of {data.rows} acknowledged")
    return [*said, f"cell: {seconds:.0f} s"]


def _figures(data: Data, out: Path, clients: int, queries: int) -> tuple[dict[str, Any], list[str], bool]:
    """Figures, what is to be said about them, and whether they are all there."""
    figures: dict[str, Any] = {}
    notes, whole = [], True
    for word, prefix in (("plain", "search"), ("bounded", "bounded")):
        name = f"{word}-{clients}-{queries}"
        facts = _read(out, name)
        if facts is None:
            whole = False
            continue
        if "missing" in facts:
            notes.append(f"{word}: {facts['missing']}")
            continue
        with np.load(out / f"{name}.npz") as answers:
            p50, p95 = np.percentile(answers["seconds"] * 1000, [50, 95])
            share, leaks = recall(data, answers["asked"], answers["ids"], bounded=word == "bounded")
        figures |= {f"{prefix}_p50_ms": float(p50), f"{prefix}_p95_ms": float(p95)}
        figures["recall_at_3" if word == "plain" else "bounded_recall_at_3"] = share
        notes.append(f"{word}: {', '.join(filter(None, [facts['setting'], str(facts['calls']) + ' calls']))}")
        if leaks:
            notes.append(f"{leaks} answers broke the bound")
    return figures, notes, whole
