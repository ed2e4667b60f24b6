"""Time, memory and achieved speed of the `colorflow` back-end at its real size, each saving on and off, on one GPU.

The networks have the published sizes and random weights, made on the device: no file of weights is read, and nothing is
said of quality. What runs is the back-end's own runner, from grey pages to refined ones; cutting pages into windows,
the retrieval of references and the text encoders (whose outcome is kept in a file) are not in the time.

`plain` is the baseline: float16, one page at a time, both guidance halves computed in full with a posterior sample each
(the published draws), LoRA beside the weights, no compiler, plain memory layout, each page a new one so that nothing
kept from the last one serves. It is faster than the published program, which also encodes the canvas for each half and
computes the text's keys and values in every step; so what is gained over it is a lower bound.

The floor is the work itself: floating-point operations, counted on the meta device, over the rate of a large matrix
product measured in the same run. Rows are written as they finish, and those that are in the file already are kept, so
that a long run can be cut into short ones (`--minutes`). A row that runs out of memory says so.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from benchmarks.colorflow_random import FULL, TINY
from benchmarks.colorflow_rows import OURS, Bench, Rows, Variant, matmul_rate
from benchmarks.report import RESULTS, meta, write_results
from colorizer.backends.colorflow.fit import Size
from colorizer.backends.colorflow.styles import STYLES

OUT = RESULTS / "colorflow_gpu.json"
SIZES = ("640x640", "512x800", "1024x1600")  # width x height of the page in the canvas; the result's are 1.5 times that
LARGE = 1024 * 1024  # pixels above which several pages at once are left out, unless asked for: minutes each
PRECISION = "bfloat16"
_FREE = {"guidance": 1.0}
_TUNED = {"channels_last": True, "compile": "default"}

VARIANTS = (
    Variant(
        "plain",
        "the baseline: float16, both guidance halves in full, LoRA beside, nothing kept",
        "other",
        recipe={"parity": True},
        precision="float16",
        beside=True,
    ),
    OURS,
    Variant("no-guidance", "classifier-free guidance off, as the authors recommend", "other", recipe=_FREE),
    Variant("tuned", "channels_last and torch.compile together", placing=_TUNED),
    Variant("tuned-no-guidance", "the same without guidance", "other", placing=_TUNED, recipe=_FREE),
    Variant("tuned-batch-4", "the same, four pages at once", placing=_TUNED, batch=4),
    Variant("channels-last", "convolutions' channels innermost in memory", placing={"channels_last": True}),
    Variant("compile", "torch.compile", placing={"compile": "default"}),
    Variant("reduce-overhead", "torch.compile with CUDA graphs", placing={"compile": "reduce-overhead"}),
    Variant("two-halves", "a posterior sample for each guidance half: the guider runs twice", "other",
            recipe={"parity": True}),
    Variant("lora-beside", "LoRA beside the weights instead of merged", beside=True),
    Variant("float16", "float16 instead of bfloat16", precision="float16"),
    Variant("batch-4", "four pages at once", batch=4),
    Variant("batch-8", "eight pages at once", batch=8),
    Variant("batch-4-slicing", "four pages at once, but one by one in the refinement (VAE slicing)", batch=4,
            placing={"vae_slicing": True}),
    Variant("batch-8-slicing", "eight, likewise", batch=8, placing={"vae_slicing": True}),
    Variant("vae-tiling", "the canvas is encoded and decoded in tiles", "approximate", placing={"vae_tiling": True}),
    Variant("offload", "networks wait in RAM while they are not at work", placing={"by_stage": True}),
    Variant("reuse-guider-2", "the guider runs at every second step", "approximate", recipe={"reuse_guider": 2}),
    Variant("other-seed", "the same page again with another seed: guides and their features are kept", "other",
            again=True),
    Variant("tuned-batch-8", "tuned, eight pages at once", placing=_TUNED, batch=8),
    Variant("tuned-no-guidance-batch-4", "tuned, without guidance, four pages at once", "other", placing=_TUNED,
            recipe=_FREE, batch=4),
    Variant("tuned-graphs", "channels_last and CUDA graphs together",
            placing={"channels_last": True, "compile": "reduce-overhead"}),
)  # fmt: skip
QUICK = ("plain", "ours", "no-guidance", "tuned", "tuned-no-guidance", "tuned-batch-4")


def wanted(arguments: argparse.Namespace) -> list[tuple[Size, Variant]]:
    """Sizes and variants to measure, the most telling first."""
    sizes = [(int(w), int(h)) for w, h in (size.split("x") for size in arguments.sizes)]
    names = arguments.rows or (QUICK if arguments.quick else [variant.name for variant in VARIANTS])
    chosen = [variant for variant in VARIANTS if variant.name in names]
    if arguments.small and not arguments.rows:  # a compiler would take minutes there
        chosen = [variant for variant in chosen if not variant.compiled]
    return [
        (size, variant)
        for size in sizes
        for variant in chosen
        if arguments.rows or variant.batch == 1 or size[0] * size[1] <= LARGE
    ]


def machine(device: torch.device) -> str:
    """The device, its driver, and the versions that decide its speed."""
    if device.type != "cuda":
        return f"{meta()['machine']}, torch {torch.__version__}"
    parts = [torch.cuda.get_device_name(device), f"driver {_driver()}", f"torch {torch.__version__}"]
    return ", ".join([*parts, f"CUDA {torch.version.cuda}", f"Python {platform.python_version()}", platform.system()])


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    except OSError:
        said = []
    return said[0] if said else "unknown"


def measured(out: Path | None, facts: dict[str, str], settings: dict[str, Any], *, again: bool) -> dict[str, Any]:
    """Rows that are in the file already; those that failed by an error are left out, to be tried once more.

    Raises:
        SystemExit: they were measured on another machine, commit or setting, and would be mixed with new ones.
    """
    if out is None or not out.is_file():
        return {}
    content = json.loads(out.read_text("utf-8"))
    then = {name: content["meta"].get(name) for name in facts} | content["results"]["settings"]
    now = facts | settings
    other = [f"{name} {then.get(name)!r}, not {now[name]!r}" for name in now if then.get(name) != now[name]]
    if other and not again:
        raise SystemExit(f"{out.name} holds rows of {'; '.join(other)}: give --again or another --out")
    rows: dict[str, Any] = {} if other else content["results"]["rows"]
    return {key: row for key, row in rows.items() if row.get("failed", "out of memory") == "out of memory"}


def line(key: str, row: dict[str, Any], seconds: float) -> str:
    """A row's figures for the terminal."""
    if "failed" in row:
        return f"{key:44} {row['failed']} ({seconds:.0f} s)"
    parts = [f"{row['s_per_page']:9.4f} s/page {row['pages_per_min']:9.1f} pages/min {row['tflop_per_s']:9.3f} TFLOP/s"]
    if "of_matmul_rate" in row:
        parts.append(f"{row['of_matmul_rate']:6.1%} of matmul")
    if "peak_reserved_gib" in row:
        parts.append(f"{row['peak_reserved_gib']:6.2f} GiB")
    if "latent_error" in row:
        parts.append(f"latents off by {row['latent_error']:.1e}")
    return f"{key:44} {'  '.join(parts)}  ({seconds:.0f} s)"


def main() -> None:
    """Measures what is asked for and writes each row as it comes."""
    arguments = _arguments()
    warnings.filterwarnings("ignore")
    device = torch.device(arguments.device or ("cpu" if arguments.small else "cuda:0"))
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device; --small tries the command on the CPU")
    out = arguments.out or (None if arguments.small else OUT)
    scale = TINY if arguments.small else FULL
    facts = {"machine": machine(device), "commit": arguments.commit or meta()["commit"]}
    settings = {"scale": scale.name, "steps": arguments.steps}
    rows = measured(out, facts, settings, again=arguments.again)
    precisions = ("bfloat16", "float16") if device.type == "cuda" else ("float32",)
    side = 8192 if device.type == "cuda" else 256
    matmul = {precision: matmul_rate(device, precision, side) for precision in precisions}
    print(facts["machine"], *(f"{name} {rate:.4g} TFLOP/s" for name, rate in matmul.items()), sep="\n", flush=True)
    precision = "float32" if arguments.small else PRECISION  # half precision is slow on CPUs
    bench = Bench(scale, arguments.style, device, precision, arguments.steps, arguments.repeats, matmul=matmul)
    bench_rows, begin = Rows(bench), time.monotonic()
    for size, variant in wanted(arguments):
        key = f"{arguments.style}/{size[0]}x{size[1]}/{variant.name}"
        if key in rows and not arguments.again:
            print(f"{key:44} kept", flush=True)
            continue
        started = time.monotonic()
        if arguments.minutes and started - begin > 60 * arguments.minutes:
            print("time is up; call again for the rest", flush=True)
            break
        rows[key] = bench_rows.measure(variant, size)
        print(line(key, rows[key], time.monotonic() - started), flush=True)
        if out is not None:
            results = {"settings": settings, "matmul_tflop_per_s": matmul, "rows": rows}
            write_results(out.stem, results, folder=out.parent, facts=facts)


def _arguments() -> argparse.Namespace:
    names = [variant.name for variant in VARIANTS]
    told = "\n".join(f"  {variant.name:26} {variant.what}" for variant in VARIANTS)
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=f"rows:\n{told}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--style", choices=list(STYLES), default="gray")
    parser.add_argument("--sizes", nargs="+", default=None, help=f"WIDTHxHEIGHT of the page [{' '.join(SIZES)}]")
    parser.add_argument("--rows", nargs="+", choices=names, default=None, metavar="ROW", help="[all, see below]")
    parser.add_argument("--quick", action="store_true", help=f"{SIZES[0]} alone: {', '.join(QUICK)}")
    parser.add_argument("--small", action="store_true", help="tiny networks on the CPU: does the command work?")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5, help="timed batches; three if they are long [5]")
    parser.add_argument("--minutes", type=float, default=0, help="start no row after that time [no limit]")
    parser.add_argument("--again", action="store_true", help="measure also the rows that the file has")
    parser.add_argument("--device", default="", help="[cuda:0; cpu with --small]")
    parser.add_argument("--commit", default="", help="what was measured, where git cannot say it")
    parser.add_argument("--out", type=Path, default=None, help=f"[benchmarks/results/{OUT.name}; none with --small]")
    arguments = parser.parse_args()
    if arguments.sizes is None:
        arguments.sizes = ["96x128"] if arguments.small else SIZES[:1] if arguments.quick else SIZES
    return arguments


if __name__ == "__main__":
    main()
