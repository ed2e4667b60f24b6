"""The tables of what the learned defaults gain and cost; called by cog blocks of docs/BENCHMARKS.md."""

from __future__ import annotations

from typing import Any

from benchmarks.render import NAMES, PROTOCOLS, load, made_by, provenance, table
from benchmarks.report import RESULTS

REFERENCES = {"right": "the right pool", "other": "another series' pool", "none": "no references"}


def _ready(name: str) -> bool:
    return (RESULTS / f"{name}.json").exists()


def references_matter(backend: str) -> str:
    """A back-end with the right pool, another series' and none, and the difference page by page."""
    if not _ready("references_matter"):
        return "Not measured yet."
    parts, every = [], []
    for comic, protocols in load("references_matter")["results"].items():
        for protocol, backends in protocols.items():
            if backend in backends:
                f = backends[backend]
                title = f"**{NAMES.get(comic, comic)}, {PROTOCOLS[protocol]}, `{backend}`, n = {f['right']['n']}**"
                parts.append("\n\n".join([title, _pools(f), _said(f)]))
                every.append(f)
    return "\n\n".join([*parts, made_by(every, "references_matter")]) if parts else "Not measured yet."


def _pools(figures: dict[str, Any]) -> str:
    rows = [
        [
            said,
            f"{f['psnr_gain_db']:+.2f}",
            f"{min(e['psnr_gain_db'] for e in f['per_episode'].values()):+.2f}",
            f"{f['ciede_ratio_to_grey']:.3f}",
            f"{f['colourfulness_ratio']:.2f}",
        ]
        for f, said in ((figures[name], said) for name, said in REFERENCES.items())
    ]
    header = ["references", "PSNR gain, dB", "worst chapter, dB", "CIEDE2000 of grey's", "colourfulness of the truth's"]
    return table(header, rows)


def _said(figures: dict[str, Any]) -> str:
    """The difference of the right pool to the others, in a sentence."""
    other = NAMES.get(figures["other_series"], figures["other_series"])
    return (
        f"The other pool: {figures['other_references']} pages of {other}. The right pool gives "
        f"{_gain(figures['right_minus_other'])} more than it and {_gain(figures['right_minus_none'])} more than none."
    )


def _gain(difference: dict[str, Any]) -> str:
    f = difference["psnr_db"]
    low, high = f["interval"]
    return f"{f['mean']:+.2f} dB (95 % interval {low:+.2f} to {high:+.2f}; more on {f['pages_more']:.0%} of the pages)"


def episodes_by_pool(comic: str, protocol: str, backend: str) -> str:
    """PSNR gain over grey per chapter, by pool."""
    if not _ready("references_matter"):
        return "Not measured yet."
    figures = load("references_matter")["results"][comic][protocol][backend]
    rows = [
        [
            chapter,
            str(f["n"]),
            *(f"{figures[name]['per_episode'][chapter]['psnr_gain_db']:+.2f}" for name in REFERENCES),
        ]
        for chapter, f in figures["right"]["per_episode"].items()
    ]
    return table(["chapter", "n", *(f"{said}, dB" for said in REFERENCES.values())], rows)


def default_speed() -> str:
    """Seconds a page by stage, memory, and the networks against matmul."""
    if not _ready("default_speed"):
        return "Not measured yet."
    r = load("default_speed")["results"]
    served, alone, floor = r["through_servers"], r["in_process"], r["against_matmul"]
    rows = [
        ["embed and retrieve, over gRPC", *_seconds(served["retrieve"])],
        [f"of it embedding, `{served['embedder']}`", f"{served['retrieve']['embed_s']:.2f}", ""],
        [f"colour, context given, over gRPC, `{served['backend']}`", *_seconds(served["colour"])],
        [f"of it the back-end, `{served['backend']}`", f"{served['colour']['compute_s']:.2f}", ""],
        ["**together: a page of a series**", *_seconds(served["together"])],
        ["the same in one stream, a page", f"{served['stream_s_per_page']:.2f}", ""],
        ["embedder in process", *_seconds(alone["embed"])],
        ["back-end in process", *_seconds(alone["colour"])],
    ]
    peak, high = r["memory_peak_mb"], r["memory_high_water_mb"]
    said = (
        f"Pages of {r['size']}, {r['cores']} cores for all processes, n = {served['together']['n']}, a pool of "
        f"{served['patches']} patches. Peak memory, both servers with workers: {peak['total']:.0f} MB (retrieval "
        f"{peak['retrieval']:.0f}, colouriser {peak['colorizer']:.0f}); each process's own high water added up: "
        f"{high['total']:.0f} MB."
    )
    return "\n\n".join([table(["stage", "p50, s", "p95, s"], rows), said, _floor(floor), provenance("default_speed")])


def _seconds(figures: dict[str, Any]) -> list[str]:
    return [f"{figures['p50_s']:.2f}", f"{figures['p95_s']:.2f}"]


def _floor(figures: dict[str, Any]) -> str:
    """What the networks' multiply-adds would take at the matmul rate, in a sentence."""
    rate = f"{figures['matmul_gmac_per_s']:.0f} G multiply-adds/s"
    if "floor_s" not in figures:
        return f"No network runs here, so there is nothing to compare with matmul ({rate} in the same run)."
    return (
        f"The networks take {figures['multiply_adds_per_page'] / 1e9:.1f} G multiply-adds a page; a float32 matrix "
        f"product in the same run: {rate}, so at least {figures['floor_s']:.2f} s. The page takes "
        f"{figures['together_over_floor']:.1f} times that in all, {figures['in_process_over_floor']:.1f} times without "
        f"the servers, and the networks alone {figures['networks_over_floor']:.1f} times."
    )
