"""Renders docs/BENCHMARKS.md's tables from benchmarks/results; called by its cog blocks."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from benchmarks.quality_rows import row_of
from benchmarks.report import RESULTS

NAMES = {
    "peppercarrot": "Pepper&Carrot",
    "climate_frogs": "Climate Change Explained to Frogs",
    "oz": "Ozma of Oz (seen style)",
    "phippy": "Phippy",
    "potter": "Beatrix Potter (seen style)",
}
PROTOCOLS = {
    "B": "B, same chapter",
    "A-truth": "A-truth, across episodes, true references",
    "A-own": "A-own, across episodes, own output as references",
}


def load(name: str) -> dict[str, Any]:
    """A result file."""
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return content


def provenance(name: str) -> str:
    """The line under a table: command, machine, commit, date."""
    meta = load(name)["meta"]
    return f"`{meta['command']}` · {meta['machine']} · commit {meta['commit']} · {meta['date']}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; all columns but the first are right-aligned."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + "--:|" * (len(header) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _cell(figures: dict[str, Any], key: str, form: str) -> str:
    return form.format(figures[key]) if key in figures else ""


def made_by(rows: Iterable[dict[str, Any]], name: str) -> str:
    """The lines under a table whose rows say themselves where they come from; the file's own line where none does."""
    lines = dict.fromkeys(_made_line(row["made"]) for row in rows if row.get("made"))
    return "\n\n".join(lines) if lines else provenance(name)


def _made_line(made: dict[str, str]) -> str:
    return f"`{made['command']}` · {made['machine']} · commit {made['commit']} · {made['date']}"


def quality() -> str:
    """Overall figures of every comic, protocol and method."""
    parts, every = [], []
    for comic, protocols in load("comic_quality")["results"].items():
        for protocol, methods in protocols.items():
            if methods:
                title = f"**{NAMES.get(comic, comic)}, {PROTOCOLS[protocol]}**"
                parts.append("\n\n".join([title, _quality_table(methods), *_left_out(methods)]))
                every += list(methods.values())
    return "\n\n".join([*parts, made_by(every, "comic_quality")])


def _quality_table(methods: dict[str, dict[str, Any]]) -> str:
    """One protocol's table; columns that no row has anything for are left out."""
    header = ["method", "embedder", "n", "PSNR gain, dB", "worst chapter, dB", "SSIM", "CIEDE2000", "of grey's",
              "colourfulness", "of the truth's"]  # fmt: skip
    rows = []
    for key, f in methods.items():
        episodes = [e for e in f.get("per_episode", {}).values() if "psnr_gain_db" in e]
        worst = min((e["psnr_gain_db"] for e in episodes), default=None)
        rows.append(
            [
                key.partition("@")[0],
                f.get("embedder", ""),
                str(f["n"]),
                _cell(f, "psnr_gain_db", "{:+.2f}"),
                "" if worst is None else f"{worst:+.2f}",
                _cell(f, "ssim", "{:.4f}"),
                _cell(f, "ciede", "{:.2f}"),
                _cell(f, "ciede_ratio_to_grey", "{:.3f}"),
                _cell(f, "colourfulness", "{:.1f}"),
                _cell(f, "colourfulness_ratio", "{:.2f}"),
            ]
        )
    filled = [i for i in range(len(header)) if any(row[i] for row in rows)]
    return table([header[i] for i in filled], [[row[i] for i in filled] for row in rows])


def _left_out(methods: dict[str, dict[str, Any]]) -> list[str]:
    """A sentence on the pages and chapters of the comic that take no part, if there are any."""
    said = methods.get("truth", {}).get("left_out", {})
    pages = {what: why for what, why in said.items() if what not in PROTOCOLS}
    return ["Left out: " + "; ".join(f"{what} ({why})" for what, why in pages.items()) + "."] if pages else []


def episodes(comic: str, protocol: str, method: str, embedder: str | None = None) -> str:
    """One method's figures per chapter; with the embedder last measured where none is named."""
    per = row_of(load("comic_quality")["results"][comic][protocol], method, embedder)["per_episode"]
    rows = [
        [chapter, str(f["n"]), f"{f['psnr_gain_db']:+.2f}", f"{f['ssim']:.4f}", f"{f['ciede_ratio_to_grey']:.3f}",
         f"{f['colourfulness']:.1f}"]
        for chapter, f in per.items()
    ]  # fmt: skip
    return table(["chapter", "n", "PSNR gain, dB", "SSIM", "CIEDE2000 of grey's", "colourfulness"], rows)


def worst_pages(comic: str, protocol: str, method: str, embedder: str | None = None) -> str:
    """The pages on which a method gains least over grey."""
    row = row_of(load("comic_quality")["results"][comic][protocol], method, embedder)
    rows = [
        [f["page"], f"{f['psnr_gain_db']:+.2f}", f"{f['ciede_ratio_to_grey']:.3f}", f"{f['colourfulness']:.1f}"]
        for f in row.get("worst_pages", ())
    ]
    return table(["page", "PSNR gain, dB", "CIEDE2000 of grey's", "colourfulness"], rows)


def recall() -> str:
    """Does a degraded page find itself among all pages; share of corners with a patch of that page in the top 3."""
    rows = [
        [name, *(f"{figures[kind]:.3f}" for kind in ("grey", "screentone", "coarse-screentone", "line"))]
        for name, figures in load("recall")["results"].items()
    ]
    return (
        table(["embedder", "grey", "screentone", "coarse screentone", "line art"], rows) + "\n\n" + provenance("recall")
    )


def _latency(figures: dict[str, Any]) -> list[str]:
    return [f"{figures['p50_ms']:.2f}", f"{figures['p95_ms']:.2f}", str(figures["n"])]


COLORFLOW = {
    "plain": "plain: both guidance halves in full, LoRA beside the weights",
    "ours": "ours: one posterior sample for both halves, LoRA merged",
    "no-guidance": "ours, guidance off",
    "two-halves": "ours, but a posterior sample for each half, as published",
    "lora-beside": "ours, but LoRA beside",
    "batch-4": "ours, four pages at once",
    "channels-last": "ours, channels_last",
    "reuse-guider-2": "ours, the guider at every second step (approximate)",
    "other-seed": "ours, the same page again with another seed",
}


def colorflow_cpu() -> str:
    """Seconds a page of the middle-size networks on a CPU, and what each saving gives."""
    results = load("colorflow_cpu")["results"]
    rows, plain = results["rows"], results["rows"]["plain"]
    lines = [
        [
            COLORFLOW[name],
            f"{row['s_per_page']:.2f}",
            f"{row['s_per_page_p95']:.2f}",
            f"{plain['s_per_page'] / row['s_per_page']:.2f}",
            f"{row['stages_s']['steps']:.2f}",
            f"{row['tflop'] * 1000:.0f}",
            f"{row['of_matmul_rate']:.0%}",
            f"{row['latent_error']:.0e}" if "latent_error" in row else "",
        ]
        for name, row in rows.items()
    ]
    header = ["way", "s/page", "p95", "times plain", "of it steps, s", "GFLOP/page", "of matmul", "latents off by"]
    said = (
        f"n = {plain['n']} rounds; {results['steps']} steps; {results['threads']} thread; a large float32 matrix "
        f"product in the same run: {results['matmul_tflop_per_s'] * 1000:.0f} GFLOP/s."
    )
    return "\n\n".join([table(header, lines), said, provenance("colorflow_cpu")])


MEMORY = {
    "plain": "plain: float16, both guidance halves in full, LoRA beside the weights",
    "ours": "one page, all defaults",
    "ours-math": "the same where no fused attention runs",
    "no-guidance": "`guidance=1`",
    "no-refine": "`refine=off`",
    "vae-tiling": "`vae_tiling` (approximate)",
    "channels-last": "`channels_last`",
    "offload": '`offload = "stage"`',
    "offload-no-guidance": '`offload = "stage"`, `guidance=1`',
    "batch-4": "four pages at once (the default `batch`)",
    "batch-4-offload": 'four pages, `offload = "stage"`',
    "batch-4-unsliced": "four pages, `vae_slicing = false`",
    "batch-8": "eight pages at once",
    "batch-8-unsliced": "eight pages, `vae_slicing = false`",
}


def colorflow_memory(style: str) -> str:
    """Peak memory of a style by setting: at the first size with its parts, at the others the sum alone."""
    results = load("colorflow_memory")["results"]
    rows = {tuple(key.split("/")): row for key, row in results["rows"].items() if key.startswith(f"{style}/")}
    sizes = list(dict.fromkeys(size for _, size, _ in rows))
    lines = []
    for name, said in MEMORY.items():
        if (first := rows.get((style, sizes[0], name))) is None:
            continue
        others = [rows.get((style, size, name)) for size in sizes[1:]]
        lines.append(
            [
                said,
                f"**{first['peak_gib']:.1f}**",
                f"{first['weights_gib']:.1f}",
                f"{first['activations_gib']:.1f}",
                first["stage"],
                *(f"{row['peak_gib']:.1f}" if row else "" for row in others),
            ]
        )
    header = [f"`{style}`", f"{sizes[0]}, GiB", "of it weights", "activations", "fullest stage", *sizes[1:]]
    return table(header, lines)


def colorflow_weights() -> str:
    """Weights that each style keeps on the device, and where the figures of memory come from."""
    results = load("colorflow_memory")["results"]
    styles, text = results["styles_gib"], results["text_encoders_gib"]
    each = ", ".join(f"`{name}` {size:.1f}" for name, size in styles.items() if name != "all")
    said = (
        f"Weights on the device in half precision, GiB: {each}, all three together {styles['all']:.1f}. The text "
        f"encoders would add {text['gray']:.1f} (CLIP) and {text['sketch']:.1f} (T5) if they stayed; `plain` has none "
        "either."
    )
    return "\n\n".join([said, provenance("colorflow_memory")])


def serving() -> str:
    """Search, ingest, cold start, colouring and memory."""
    r = load("serving")["results"]
    search = r["search"]
    latency = table(
        ["call", "p50, ms", "p95, ms", "n"],
        [
            [f"FAISS IndexFlatIP, {search['patches']} patches, 4 queries (the floor)", *_latency(search["faiss"])],
            ["the pool's search in process", *_latency(search["in_process"])],
            ["SearchVectors over gRPC", *_latency(search["grpc"])],
            ["RetrieveContext of a whole page over gRPC, pixels included", *_latency(r["retrieve"])],
        ],
    )
    ingest = table(
        ["ingest", "n", "pages/s", "embedder", "decoding", "store with sync"],
        [
            [
                name,
                str(f["n"]),
                f"{f['pages_per_s']:.1f}",
                *(f"{f[k + '_share']:.0%}" for k in ("embedder", "decode", "store")),
            ]
            for name, f in (("comic pages", r["ingest"]), ("96 x 136 pictures", r["ingest_small"]))
        ],
    )
    cold, paint = r["cold_start"], r["colourise"]
    other = table(
        ["what", "value"],
        [
            ["cold start: process ready", f"{cold['ready_s']:.2f} s"],
            [f"cold start: first search of {search['patches']} patches answered", f"{cold['first_search_s']:.2f} s"],
            ["cold start: first context of a page answered", f"{cold['first_context_s']:.2f} s"],
            [
                f"colourise, `exemplar`, one worker, {paint['megapixels_per_page']:.1f} megapixels a page",
                f"{paint['s_per_page']:.2f} s/page",
            ],
            *(
                [f"memory of the {server} server with its workers, {when}", f"{r[f'memory_{when}_mb'][server]:.0f} MB"]
                for server in ("retrieval", "colorizer")
                for when in ("idle", "busy")
            ),
        ],
    )
    overhead = search["overhead_ms"]
    said = (
        f"gRPC adds {overhead['p50_ms']:.2f} ms (p50) and {overhead['p95_ms']:.2f} ms (p95) to the search in process; "
        f"the search over gRPC takes {search['grpc_over_faiss']:.2f} times bare FAISS."
    )
    return "\n\n".join([latency, said, ingest, other, provenance("serving")])
