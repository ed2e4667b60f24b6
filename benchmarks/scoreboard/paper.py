"""The published figures (ColorFlow, arXiv 2412.11815), to print beside ours; never measured here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PAPER = (
    "The paper: ColorFlow-Bench, 30 manga chapters, each with 50 black-and-white pages and 40 colour references, "
    "screen-style and greyscale input, pages repainted at 1024x1600; which CLIP, Inception and aesthetic weights "
    "measured them is not known here."
)
LUMA = (
    "Back-ends that keep the page's own luma, as `exemplar` and `incontext` do, leave the dots of a screentone in the "
    "result, where they count as errors; the paper's method paints over them."
)


@dataclass(frozen=True)
class PaperTable:
    """One of its tables."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


METRICS = ("CLIP-IS", "FID", "PSNR", "SSIM", "AS")
DASH = ("–",) * 5

TABLES = (
    PaperTable(
        "Table 1, methods, screen-style input",
        ("method", "references", *METRICS),
        (
            ("MC-v2", "no", "0.8632", "48.37", "13.50", "0.6987", "4.753"),
            ("ACDO", "no", "0.8687", "39.38", "15.75", "0.7672", "4.540"),
            ("EBMC", "yes", "0.8542", "38.77", "15.21", "0.7592", "4.605"),
            ("ScreenVAE", "yes", "0.7328", "98.52", "9.12", "0.5373", "4.160"),
            ("ColorFlow", "yes", "0.9419", "13.37", "25.88", "0.9541", "4.924"),
        ),
    ),
    PaperTable(
        "Table 1, methods, greyscale input",
        ("method", "references", *METRICS),
        (
            ("MC-v2", "no", "0.8833", "33.14", "17.20", "0.8396", "4.845"),
            ("ACDO", "no", "0.8970", "28.12", "21.77", "0.9516", "4.686"),
            ("EBMC", "yes", "0.8859", "19.48", "20.80", "0.9474", "4.702"),
            ("ScreenVAE", "yes", *DASH),
            ("ColorFlow", "yes", "0.9433", "12.17", "26.01", "0.9579", "5.011"),
        ),
    ),
    PaperTable(
        "Table 2, retrieval (RAP) and super-resolution (GSRP) on and off",
        ("RAP in training", "RAP at inference", "GSRP", *METRICS),
        (
            ("no", "yes", "yes", "0.9326", "15.98", "24.48", "0.9448", "4.921"),
            ("no", "no", "yes", "0.9233", "18.32", "24.16", "0.9410", "4.907"),
            ("yes", "no", "yes", "0.9266", "17.07", "24.64", "0.9464", "4.914"),
            ("yes", "yes", "no", "0.9322", "17.85", "20.12", "0.8077", "4.898"),
            ("yes", "yes", "yes", "0.9419", "13.37", "25.88", "0.9541", "4.924"),
        ),
    ),
    PaperTable(
        "Table 3, resolution at inference (trained at 512x800)",
        ("resolution", *METRICS),
        (
            ("512x800", "0.9372", "14.91", "23.51", "0.9414", "4.868"),
            ("1024x1600", "0.9419", "13.37", "25.88", "0.9541", "4.924"),
            ("1280x2000", "0.9398", "13.42", "26.02", "0.9580", "4.929"),
        ),
    ),
    PaperTable(
        "Table 4, rank of the LoRA",
        ("rank", *METRICS),
        (
            ("32", "0.940", "13.46", "25.46", "0.9521", "4.920"),
            ("64", "0.9419", "13.37", "25.88", "0.9541", "4.924"),
            ("128", "0.9376", "14.31", "24.79", "0.9461", "4.930"),
            ("192", "0.9370", "14.46", "24.59", "0.9440", "4.914"),
        ),
    ),
    PaperTable(
        "Table 5, timestep shift mu",
        ("mu", *METRICS),
        (
            ("0", "0.9351", "14.18", "25.12", "0.9501", "4.927"),
            ("1.5", "0.9419", "13.37", "25.88", "0.9541", "4.924"),
            ("3", "0.9395", "13.51", "25.42", "0.9509", "4.917"),
        ),
    ),
    PaperTable(
        "Table 6, user study, 1 to 5",
        ("method", "aesthetic quality", "similarity to the original", "consistency in sequences"),
        (
            ("ColorFlow", "4.577", "4.673", "4.538"),
            ("EBMC", "3.141", "3.316", "3.399"),
            ("MC-v2", "2.891", "2.984", "3.215"),
            ("ACDO", "2.844", "2.642", "2.540"),
            ("ScreenVAE", "1.547", "1.385", "1.308"),
        ),
    ),
)


def difference(results: Mapping[str, Any]) -> str:
    """How data and setting of the published figures differ from ours.

    Args:
        results: as they stand in scoreboard.json.
    """
    ours = []
    for name, board in results["boards"].items():
        chapters = board["chapters"].values()
        pages, references = (sum(c[key] for c in chapters) for key in ("pages", "references"))
        made = (
            f", {' and '.join(board['made_inputs'])} input made from the colour pages" if board["made_inputs"] else ""
        )
        ours.append(f"{name}, {len(chapters)} chapters with {pages} pages and {references} references in all{made}")
    return (
        f"Not the same test: no figure of theirs may be set against one of ours digit by digit. {PAPER} "
        f"Ours: {'; '.join(ours)}; pages in their full size. {LUMA}"
    )
