"""The tables of the retrieval engine in depth: residency, growth, kills; called by cog blocks of docs/BENCHMARKS.md."""

from __future__ import annotations

from typing import Any

from benchmarks.render import load, provenance, table
from benchmarks.report import RESULTS


def _ready(name: str) -> bool:
    return (RESULTS / f"{name}.json").exists()


def residency() -> str:
    """Ten thousand series under a budget."""
    if not _ready("residency"):
        return "Not measured yet."
    r = load("residency")["results"]
    searches = [
        [
            str(s["clients"]),
            str(s["n"]),
            str(s["series_asked"]),
            str(s["errors"]),
            *(f"{s[key]:.1f}" for key in ("p50_ms", "p95_ms", "p99_ms")),
            f"{s['searches_per_s']:.0f}",
        ]
        for s in r["searches"]
    ]
    header = ["clients", "searches", "series asked for", "errors", "p50, ms", "p95, ms", "p99, ms", "searches/s"]
    took = r["import"]
    said = (
        f"{r['series']} series of {r['references_each']} references, {r['vector_bytes'] / 1e6:.0f} MB of vectors; "
        f"budget {r['budget_bytes'] / 1e6:.0f} MB. Imported at {took['references_per_s']:.0f} references/s, synced, "
        f"{took['series_per_s']:.1f} series/s. A new server on the full folder was ready after {r['ready_s']:.2f} s. "
        f"The most that it took above its start: {r['most_bytes_above_start'] / 1e6:.0f} MB "
        f"({r['most_over_budget']:.2f} of the budget); by its own count {r['counted_bytes_at_the_end'] / 1e6:.0f} MB "
        f"in {r['residents_at_the_end']} pools at the end."
    )
    return "\n\n".join([table(header, searches), said, provenance("residency")])


def growth() -> str:
    """A thousand chapters while searches run."""
    if not _ready("growth"):
        return "Not measured yet."
    r = load("growth")["results"]
    rows = [_grown(run) for run in r["runs"]]
    header = [
        "chapters/s",
        "p50 / p99 while growing, ms",
        "last tenth, ms",
        "at rest, ms",
        "p99, times at rest",
        "last tenth, times at rest",
        "a chapter, last tenth over first",
        "most memory over final",
        "final memory over vectors",
    ]
    lone = r["alone"]
    said = (
        f"{r['chapters']} chapters of {r['references_each']} references: {r['rows']} rows of {r['dim']} numbers. With "
        f"nobody searching, a chapter takes {1000 * lone['chapter_s_by_tenth'][0]:.0f} ms in the first tenth and "
        f"{1000 * lone['chapter_s_by_tenth'][-1]:.0f} ms in the last ({lone['last_tenth_over_first']:.2f} times), "
        f"{lone['rows_per_s']:.0f} rows/s in all; searches, which cost more in a larger pool, share the two cores."
    )
    return "\n\n".join([table(header, rows), said, provenance("growth")])


def _grown(run: dict[str, Any]) -> list[str]:
    pace = run["pace_chapters_per_s"]
    chapters = run["chapter_s_by_tenth"]
    return [
        f"{pace:.0f}" if isinstance(pace, float | int) else str(pace),
        *(f"{run[key]['p50_ms']:.1f} / {run[key]['p99_ms']:.1f}" for key in ("growing", "growing_last_tenth", "idle")),
        f"{run['p99_growing_over_idle']:.2f}",
        f"{run['p99_last_tenth_over_idle']:.2f}",
        f"{run['last_tenth_over_first']:.2f} ({1000 * chapters[0]:.0f} to {1000 * chapters[-1]:.0f} ms)",
        f"{run['most_over_final']:.2f}",
        f"{run['final_over_vectors']:.2f}",
    ]


def kills() -> str:
    """What was there after a hundred kills."""
    if not _ready("kills"):
        return "Not measured yet."
    r = load("kills")["results"]
    done, hit = r["operations_done"], r["killed_while_under_way"]
    rows = [[name, str(done.get(name, 0)), str(hit.get(name, 0))] for name in sorted({*done, *hit})]
    said = (
        f"{r['kills']} kills (seed {r['seed']}): **{r['problems']} problems**. {r['snapshots_acknowledged']} snapshots "
        f"were acknowledged. Start of the server after a kill, until it is ready: {r['start_s_median']:.2f} s (median)."
    )
    return "\n\n".join([table(["operation", "acknowledged", "under way at a kill"], rows), said, provenance("kills")])


def chapter_kills() -> str:
    """What became of a chapter after each kill of the command that colours it."""
    if not _ready("chapter_kills"):
        return "Not measured yet."
    r = load("chapter_kills")["results"]
    finished = sorted(r["pages_finished_at_the_kill"])
    said = (
        f"{r['moments']} moments (seed {r['seed']}; {r['with_sigint']} Ctrl-C, {r['with_sigkill']} SIGKILL; "
        f"{r['with_grow']} with `--grow`) of a chapter of {r['pages']} pages: **{r['problems']} problems**. "
        f"{r['identical']} results are equal to the undisturbed run's to the byte. At the signal {finished[0]} to "
        f"{finished[-1]} pages were finished (median {finished[len(finished) // 2]}); "
        f"{r['over_before_the_signal']} runs were over before it came. Finished pages coloured again: "
        f"**{r['finished_pages_coloured_again']}**. Pages that the server had coloured when the command died, and that "
        f"had not reached it: {r['coloured_but_not_recorded_at_the_kill']}, at most {r['most_of_these_in_one_kill']} "
        f"in one kill; those are begun again."
    )
    return "\n\n".join([said, provenance("chapter_kills")])
