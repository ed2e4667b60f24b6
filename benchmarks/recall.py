"""Does a page's grey, screentoned or line-art version find the colour page it was made from?

Every page of a comic goes into the pool as a reference (five patches, in colour). Every version of every page is then a
query of four corner patches. A corner is recalled if at least one of its three best hits is a patch of that same page.
The search is exact, in numpy, over the whole pool: this measures the embedder, not the index.

With `--stories`, also whether a page finds *other* pages of its own story among all stories (`story_recall`); with
`--held`, the same over the stories that the recipes of `training/` hold back. With `--keep`, rows that are not measured
anew stay in the JSON, with where they were made.

    python -m benchmarks.recall --comics ../shared/data/peppercarrot --embedder structure --embedder patchnet
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
from benchmarks.story_recall import Page, measure_stories, read_page
from retrieval.embed import Embedder, EmbedderSettings, create_embedder
from training.stories import read_stories, split

TOP = 3  # hits per corner, as in the published method
FORMS = {"structure": "structure", "patchnet": "patchnet", "open_clip": "open_clip", "open_clip-colour": "open_clip"}


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


def stories(embedder: Embedder, comics: Sequence[Path], headline: str, tuned_on: set[str]) -> dict[str, Any]:
    """`measure_stories` over all comics, and for the pages of the first comic alone.

    Args:
        embedder: what is measured.
        comics: folders; their pages are one pool.
        headline: name of the comic whose pages also get figures of their own.
        tuned_on: chapters of that comic that are left out of its "reported" figures; they stay in the pool.
    """
    pages: list[Page] = []
    fresh: list[bool] = []
    for folder in comics:
        comic = read_comic(folder.resolve())
        for page in comic.pages:
            pages.append(read_page(embedder, comic.name, page.chapter, page.pixels()))
            fresh.append(page.chapter not in tuned_on)
    own = np.array([page.comic == headline for page in pages])
    result = {"all": measure_stories(pages)}
    if own.any():
        result[headline] = measure_stories(pages, own)
        result["reported"] = measure_stories(pages, own & np.array(fresh))
    return result


def held_stories(embedder: Embedder, data: Path) -> dict[str, Any]:
    """`measure_stories` over the stories that training holds back; each is a comic of its own."""
    _, held = split(read_stories(data))
    pages = [read_page(embedder, story.name, "", picture.load()) for story in held for picture in story.pictures]
    return measure_stories(pages)


def main(arguments: Sequence[str]) -> None:
    """Measures each embedder on each comic and writes the results."""
    given = _parser().parse_args(arguments)
    known: dict[str, Any] = {}
    results: dict[str, Any] = _kept(given.out / "recall.json") if given.keep else {}
    for form in given.embedder or ["structure"]:
        settings = _settings(given, form)
        embedder = create_embedder(FORMS[form], settings)
        name = form
        if FORMS[form] == "open_clip":
            name = f"open_clip {given.label or given.model}, {'grey twin' if settings.grey_twin else 'colour'}"
        result: dict[str, Any] = {"space": embedder.space.id}
        if given.comics:
            datasets = {}
            for comic in given.comics:
                datasets[comic.name] = measure(embedder, comic, given.versions, set(given.tuned_on), known)
                print(name, comic.name, json.dumps(datasets[comic.name]), flush=True)
            first = datasets[given.comics[0].name]
            result |= {version: first[version] for version in given.versions}
            result |= {"n": first["n"], "datasets": datasets}
        if given.stories and settings.grey_twin:
            headline = given.stories[0].name
            result["story"] = stories(embedder, given.stories, headline, set(given.tuned_on))
            print(name, "story", json.dumps(result["story"]), flush=True)
        if given.held and settings.grey_twin:
            result["held_stories"] = held_stories(embedder, given.held)
            print(name, "held stories", json.dumps(result["held_stories"]), flush=True)
        embedder.close()
        results[name] = _merged(results.get(name, {}), result)
        print(write_results("recall", results, folder=given.out))


def _kept(path: Path) -> dict[str, Any]:
    """The rows of earlier runs; "runs" in each says which figures were made where."""
    if not path.is_file():
        return {}
    written = json.loads(path.read_text("utf-8"))
    rows: dict[str, Any] = {}
    for name, row in written["results"].items():
        runs = row.pop("runs", [])
        listed = {figure for run in runs for figure in run["figures"]}
        last = [figure for figure in row if figure not in listed]
        rows[name] = row | {"runs": [*runs, written["meta"] | {"figures": last}] if last else runs}
    return rows


def _merged(kept: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """New figures over old ones; "runs" tells of the old ones that stay."""
    runs = [
        run | {"figures": [f for f in run["figures"] if f not in new and f != "space"]} for run in kept.get("runs", [])
    ]
    left = [run for run in runs if run["figures"]]
    return kept | new | {"runs": left} if left else new


def _settings(given: argparse.Namespace, form: str) -> EmbedderSettings:
    with_weights = FORMS[form] == "open_clip"
    return EmbedderSettings(
        crop_recipe=given.crop_recipe,
        grey_twin=form != "open_clip-colour",
        model=given.model if with_weights else None,
        pretrained=given.pretrained if with_weights else None,
        weights=given.weights if with_weights else None,
        precision=given.precision if with_weights else "auto",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comics", type=Path, action="append", default=[], help="a comic; the first is the headline")
    parser.add_argument("--stories", type=Path, nargs="+", default=[], help="comics whose pages are one pool")
    parser.add_argument("--held", type=Path, help="training pictures, whose held back stories are one pool")
    parser.add_argument("--keep", action="store_true", help="keep rows and figures that are not measured anew")
    parser.add_argument("--embedder", choices=sorted(FORMS), action="append", help="default: structure")
    parser.add_argument("--versions", nargs="+", choices=sorted(DEGRADATIONS), default=list(DEGRADATIONS))
    parser.add_argument("--tuned-on", nargs="*", default=[], help="chapters that features were tuned on")
    parser.add_argument("--crop-recipe", default="native")
    parser.add_argument("--model", help="an open_clip model name")
    parser.add_argument("--pretrained", help="an open_clip tag")
    parser.add_argument("--weights", type=Path, help="local weights")
    parser.add_argument("--precision", default="auto", help="of open_clip: fp32 or bf16")
    parser.add_argument("--label", help="what to call the open_clip weights in the results")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON; default benchmarks/results")
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
