"""The tables of the comparison with other products; called by a cog block of docs/BENCHMARKS.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.render import load, provenance, table
from benchmarks.report import RESULTS

NAME = "retrieval_vs_peers"
OURS, FLOOR = "panelhue", "faiss"
APPROXIMATE = "recall floor"  # in the name of our kinds whose recall is not wanted to be 1
BAR = (100_000, 512)  # rows and numbers at which the p50 has a bar: 1.5 times the floor and 1 ms
LOADS = ((1, 1), (1, 4), (16, 1), (16, 4))  # clients, queries a call
TARGETS = (
    ("insert", "insert_per_s", True),
    ("restart", "restart_to_first_answer_s", False),
    ("bounded p50, 1 client", "bounded_p50_ms", False),
)
SEARCHES = (("p50, 1 client", "search_p50_ms", False), ("bounded p50, 1 client", "bounded_p50_ms", False))
RECALLS = {"search_p50_ms": "recall_at_3", "bounded_p50_ms": "bounded_recall_at_3"}

Cell = list[dict[str, Any]]  # the rows of one product, kind and size


def peers() -> str:
    """All sizes: what is kept, searches, bounded searches; then the targets."""
    if not (RESULTS / f"{NAME}.json").exists():
        return "Not measured yet."
    cells = list(_cells(load(NAME)["cells"]))
    sizes = sorted({(cell[0]["rows"], cell[0]["dim"]) for cell in cells})
    parts = [_size([c for c in cells if (c[0]["rows"], c[0]["dim"]) == size], *size) for size in sizes]
    return "\n\n".join([*parts, _syncs(cells), _targets(cells), provenance(NAME)])


def _cells(rows: list[dict[str, Any]]) -> Iterator[Cell]:
    groups: dict[tuple[Any, ...], Cell] = {}
    for row in rows:
        groups.setdefault((row["product"], row["kind"], row["rows"], row["dim"]), []).append(row)
    yield from groups.values()


def _name(cell: Cell) -> str:
    return f"{cell[0]['product']}, {cell[0]['kind']}"


def _figure(value: float | None, form: str = "{:.2f}") -> str:
    return "" if value is None else form.format(value)


def _state(cell: Cell) -> str:
    states = {row["state"] for row in cell} - {"ok"}
    return "; ".join(sorted(states)) or "ok"


def _size(cells: list[Cell], rows: int, dim: int) -> str:
    kept = [
        [
            _name(cell),
            _figure(cell[0]["insert_per_s"], "{:.0f}"),
            _figure(cell[0]["restart_to_first_answer_s"]),
            _figure(cell[0]["rss_mb"], "{:.0f}"),
            _figure(cell[0]["disk_mb"], "{:.0f}"),
            _state(cell),
        ]
        for cell in cells
    ]
    header = ["product", "insert, rows/s", "restart to first answer, s", "memory, MB", "disk, MB", "state"]
    return "\n\n".join(
        [
            f"**{rows:,} rows of {dim}**",
            table(header, kept),
            _searches(cells, "p50 / p95 in ms, no bound", "search", "recall_at_3"),
            _searches(cells, "p50 / p95 in ms, chapter ≤ N", "bounded", "bounded_recall_at_3"),
        ]
    )


def _searches(cells: list[Cell], title: str, prefix: str, recall: str) -> str:
    lines = []
    for cell in cells:
        by_load = {(row["clients"], row["queries"]): row for row in cell}
        shares = [row[recall] for row in cell if row[recall] is not None]
        pairs = [_pair(by_load[one], prefix) if one in by_load else "" for one in LOADS]
        lines.append([_name(cell), *pairs, f"{min(shares):.4f}" if shares else ""])
    loads = [f"{c} client{'s' * (c > 1)}, {q} quer{'ies' if q > 1 else 'y'}" for c, q in LOADS]
    return table([title, *loads, "recall@3, lowest"], lines)


def _pair(row: dict[str, Any], prefix: str) -> str:
    p50, p95 = row[f"{prefix}_p50_ms"], row[f"{prefix}_p95_ms"]
    return "" if p50 is None else f"{p50:.2f} / {p95:.2f}"


def _syncs(cells: list[Cell]) -> str:
    said = {f"{row['product']} ({row['versions']})": row["sync"] for cell in cells for row in cell if row["versions"]}
    return "What an acknowledged insert has synced:\n\n" + "\n".join(f"- {name}: {text}" for name, text in said.items())


def _targets(cells: list[Cell]) -> str:
    """Where the targets are reached and where not, from the figures alone."""
    lines = [line for cell in cells if cell[0]["product"] == OURS for line in _judged(cell, cells)]
    return "Targets:\n\n" + "\n".join(f"- {line}" for line in lines) if lines else "No cell of this server yet."


def _judged(ours: Cell, cells: list[Cell]) -> Iterator[str]:
    size = (ours[0]["rows"], ours[0]["dim"])
    where = f"{size[0]:,} x {size[1]}"
    others = [cell for cell in cells if (cell[0]["rows"], cell[0]["dim"]) == size and cell[0]["product"] != OURS]
    floors = {(row["clients"], row["queries"]): row for cell in others if cell[0]["product"] == FLOOR for row in cell}
    shares = [row[key] for row in ours for key in ("recall_at_3", "bounded_recall_at_3") if row[key] is not None]
    servers = [cell for cell in others if cell[0]["kind"].startswith("server")]
    if APPROXIMATE in ours[0]["kind"]:
        lowest = f"lowest recall {min(shares):.4f}" if shares else "recall not measured"
        yield from (f"{where}, {ours[0]['kind']}: {lowest}; {line}" for line in _against(ours, servers, SEARCHES))
        return
    if shares:
        yield f"{where}: lowest recall {min(shares):.4f} (wanted 1)"
    for row in ours:
        floor = floors.get((row["clients"], row["queries"]))
        if row["clients"] == 1 and floor and row["search_p50_ms"] and floor["search_p50_ms"]:
            wanted = 1.5 * floor["search_p50_ms"] + 1
            word = "within" if row["search_p50_ms"] <= wanted else "above"
            if size == BAR:
                word = "reached" if word == "within" else "**not reached**"
            what = "the bar" if size == BAR else "no bar here, the same rule"
            yield f"{where}, {row['queries']} a call: p50 {row['search_p50_ms']:.2f} ms, {what}: {wanted:.2f}: {word}"
    yield from (f"{where}, {line}" for line in _against(ours, servers, TARGETS))


def _against(ours: Cell, servers: list[Cell], figures: Sequence[tuple[str, str, bool]]) -> Iterator[str]:
    """Which servers are ahead in some figures: label, key, and whether more is better."""
    for label, key, larger in figures:
        mine = ours[0][key]
        ahead = [
            _name(cell) + (f" (recall {cell[0][RECALLS[key]]:.2f})" if key in RECALLS else "")
            for cell in servers
            if mine is not None and cell[0][key] is not None and ((cell[0][key] > mine) == larger)
        ]
        if mine is not None and servers:
            yield f"{label}: {'ahead of every other server' if not ahead else '**behind** ' + '; '.join(ahead)}"
