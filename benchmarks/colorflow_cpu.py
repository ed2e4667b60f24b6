"""What each saving of the `colorflow` back-end gives on a CPU, with networks of a middle size and random weights.

A fifth of the published widths at a page of 128 x 192 pixels, in float32 on one core: seconds a page, so that the plain
way and ours can be compared in one run anywhere. What a GPU gives is another matter (`benchmarks/gpu/colorflow.py`),
and random weights say nothing of quality.

`plain` computes both guidance halves in full with a posterior sample each and has LoRA beside the weights; every other
row differs from `ours` in one thing. The rows take turns, one batch each a round, so that whatever else the machine
does hits all of them; a figure is the median of its rounds.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.colorflow_random import MIDDLE
from benchmarks.colorflow_rows import OURS, Bench, Session, Variant, matmul_rate, relative_error
from benchmarks.report import meta, write_results
from colorizer.backends.colorflow.fit import Size

SIZE = 128, 192  # width and height of the page in the canvas, pixels
VARIANTS = (
    Variant("plain", "both guidance halves in full, LoRA beside", "other", recipe={"parity": True}, beside=True),
    OURS,
    Variant("no-guidance", "guidance off", "other", recipe={"guidance": 1.0}),
    Variant("two-halves", "a posterior sample for each guidance half", "other", recipe={"parity": True}),
    Variant("lora-beside", "LoRA beside the weights", beside=True),
    Variant("batch-4", "four pages at once", batch=4),
    Variant("channels-last", "convolutions' channels innermost", placing={"channels_last": True}),
    Variant("reuse-guider-2", "the guider at every second step", "approximate", recipe={"reuse_guider": 2}),
    Variant("other-seed", "the same page with another seed", "other", again=True),
)


def measure(bench: Bench, rounds: int, size: Size = SIZE, variants: Sequence[Variant] = VARIANTS) -> dict[str, Any]:
    """Rows by name; all runners are kept side by side.

    Args:
        bench: what the rows share.
        rounds: timed batches of each row.
        size: width and height of the page in the canvas, pixels.
        variants: the default among them.
    """
    sessions = {variant.name: Session(bench, variant, size) for variant in variants}
    latents = {}
    for name, session in sessions.items():  # warm-up
        session.batch(0)
        latents[name] = session.latents
        session.stages.clear()
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for number in range(1, rounds + 1):
        for name, session in sessions.items():
            seconds[name].append(session.batch(number))
        print(f"round {number}:", *(f"{name} {times[-1]:.2f} s" for name, times in seconds.items()), flush=True)
    rows = {name: session.figures(seconds[name]) for name, session in sessions.items()}
    for variant in variants:
        if variant.kind != "other" and variant.name != OURS.name:
            rows[variant.name]["latent_error"] = relative_error(latents[variant.name], latents[OURS.name])
        rows[variant.name]["what"] = variant.what
    return rows


def main() -> None:
    """Measures all rows and writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of torch [1]")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(arguments.threads)
    device = torch.device("cpu")
    rate = matmul_rate(device, "float32", 2048)
    bench = Bench(MIDDLE, "gray", device, "float32", matmul={"float32": rate})
    results = {
        "page": list(SIZE),
        "steps": bench.steps,
        "threads": arguments.threads,
        "matmul_tflop_per_s": rate,
        "rows": measure(bench, arguments.rounds),
    }
    facts = {"machine": f"{meta()['machine']}, torch {torch.__version__}"}
    print(write_results("colorflow_cpu", results, facts=facts))


if __name__ == "__main__":
    main()
