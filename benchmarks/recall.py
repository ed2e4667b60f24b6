"""Does a page's grey, screentoned or line-art version find the colour page it was made from?

Every page of a comic goes into the pool as a reference (five patches, in colour). Every version of every page is then a
query of four corner patches. A corner is recalled if at least one of its three best hits is a patch of that same page.
The search is exact, in numpy, over the whole pool: this measures the embedder, not the index.

    python -m benchmarks.recall --comics ../shared/data/peppercarrot --embedder structure
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32

from benchmarks.comics import read_comic
from benchmarks.degrade import DEGRADATIONS
from benchmarks.report import RESULTS, write_results
from retrieval.embed import Embedder, EmbedderSettings, create_embedder

TOP = 3  # hits per corner, as in the published method
FORMS = {"structure": "structure", "open_clip": "open_clip", "open_clip-colour": "open_clip"}


def found(
    queries: Float32[np.ndarray, "n 4 dim"], references: Float32[np.ndarray, "n 5 dim"], top: int
) -> Bool[np.ndarray, "n 4"]:
    """Whether each corner of page i has a patch of reference i among its `top` best hits of all references."""
    pages, corners, dim = queries.shape
    scores = queries.reshape(-1, dim) @ references.reshape(-1, dim).T
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top] // references.shape[1]
    own = np.repeat(np.arange(pages), corners)[:, None]
    return np.asarray((best == own).any(axis=1).reshape(pages, corners))


def measure(
    embedder: Embedder, comic: Path, versions: Sequence[str], tuned_on: set[str], known: dict[str, Any]
) -> dict[str, Any]:
    """Recall over one comic, for all pages and for the chapters that nothing was tuned on.

    Args:
        embedder: what is measured.
        comic: its folder.
        versions: keys of `DEGRADATIONS`.
        tuned_on: chapters left out of the "reported" figures; they stay in the pool.
        known: query vectors that another space of the same weights has made; read and added to.
    """
    pages = read_comic(comic.resolve()).pages
    references: list[Float32[np.ndarray, "5 dim"]] = []
    queries: dict[str, list[Float32[np.ndarray, "4 dim"]]] = {version: [] for version in versions}
    spent: list[float] = []
    for number, page in enumerate(pages):
        colour = page.pixels()
        references.append(embedder.embed_references([colour])[0])
        for version in versions:
            key = f"{embedder.space.weights_sha256 or embedder.space.model} {page.path} {version}"
            if key not in known:
                picture = DEGRADATIONS[version](colour, number)
                start = time.perf_counter()
                known[key] = embedder.embed_pages([picture])[0]
                spent.append(time.perf_counter() - start)
            queries[version].append(known[key])
    pool = np.stack(references)
    hits = {version: found(np.stack(rows), pool, TOP) for version, rows in queries.items()}
    fresh = np.array([page.chapter not in tuned_on for page in pages])
    result: dict[str, Any] = {version: float(hit.mean()) for version, hit in hits.items()}
    result |= {"n": len(pages), "corners": 4 * len(pages), "pool_patches": 5 * len(pages)}
    if tuned_on and fresh.any():
        result["reported"] = {version: float(hit[fresh].mean()) for version, hit in hits.items()}
        result["reported"] |= {"n": int(fresh.sum()), "without_chapters": sorted(tuned_on)}
    if spent:
        p50, p95 = np.percentile(spent, (50, 95)) * 1000
        result["query_ms"] = {"p50": round(float(p50), 1), "p95": round(float(p95), 1), "n": len(spent)}
    return result


def main(arguments: Sequence[str]) -> None:
    """Measures each embedder on each comic and writes the results."""
    given = _parser().parse_args(arguments)
    known: dict[str, Any] = {}
    results: dict[str, Any] = {}
    for form in given.embedder or ["structure"]:
        with_weights = FORMS[form] == "open_clip"
        settings = EmbedderSettings(
            crop_recipe=given.crop_recipe,
            grey_twin=form != "open_clip-colour",
            model=given.model if with_weights else None,
            pretrained=given.pretrained if with_weights else None,
            weights=given.weights if with_weights else None,
        )
        embedder = create_embedder(FORMS[form], settings)
        name = form
        if with_weights:
            name = f"open_clip {given.label or given.model}, {'grey twin' if settings.grey_twin else 'colour'}"
        datasets = {}
        for comic in given.comics:
            datasets[comic.name] = measure(embedder, comic, given.versions, set(given.tuned_on), known)
            print(name, comic.name, json.dumps(datasets[comic.name]), flush=True)
        first = {version: datasets[given.comics[0].name][version] for version in given.versions}
        result = {**first, "n": datasets[given.comics[0].name]["n"], "space": embedder.space.id, "datasets": datasets}
        embedder.close()
        results[name] = result
        print(write_results("recall", results, folder=given.out))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--comics", type=Path, action="append", required=True, help="a comic; the first is the headline"
    )
    parser.add_argument("--embedder", choices=sorted(FORMS), action="append", help="default: structure")
    parser.add_argument("--versions", nargs="+", choices=sorted(DEGRADATIONS), default=list(DEGRADATIONS))
    parser.add_argument("--tuned-on", nargs="*", default=[], help="chapters that features were tuned on")
    parser.add_argument("--crop-recipe", default="native")
    parser.add_argument("--model", help="an open_clip model name")
    parser.add_argument("--pretrained", help="an open_clip tag")
    parser.add_argument("--weights", type=Path, help="local weights")
    parser.add_argument("--label", help="what to call the open_clip weights in the results")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON; default benchmarks/results")
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
