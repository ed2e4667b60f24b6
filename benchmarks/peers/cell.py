"""One cell of the comparison, run in the product's environment: `python -m benchmarks.peers.cell fill|serve SPEC`.

`fill` inserts all rows and ends without warning (SIGKILL: the server, or itself); `serve` starts the product on what is
there and searches. Both write what they know into the spec's `out` folder as they go, so that a cell that is stopped
still tells how far it came.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.crew import Answers, Crew, Job, alone, crew
from benchmarks.peers.processes import disk_bytes, resident_bytes
from benchmarks.peers.product import Product, adapter

CLIENTS = (1, 16)
PER_CALL = (1, 4)
LAST_ROWS = 5  # of which one must be found for the first correct answer
RESTART_SECONDS = 300.0


def say(out: Path, name: str, facts: dict[str, Any]) -> None:
    """Writes a JSON file whole or not at all."""
    draft = out / f"{name}.draft"
    draft.write_text(json.dumps(facts))
    draft.replace(out / f"{name}.json")


def fill(product: Product, spec: dict[str, Any], out: Path) -> None:
    """Inserts all rows, and says how fast they were acknowledged."""
    vectors = np.load(Path(spec["data"]) / "vectors.npy", mmap_mode="r")
    chapters = np.load(Path(spec["data"]) / "chapters.npy")
    product.start()
    product.create()
    begin = said = time.perf_counter()
    for first in range(0, spec["rows"], product.batch):
        rows = slice(first, min(first + product.batch, spec["rows"]))
        product.insert(first, np.array(vectors[rows]), chapters[rows])
        now = time.perf_counter()
        if now - said > 1.0:
            say(out, "inserting", {"rows": rows.stop, "seconds": now - begin})
            said = now
    product.acknowledged()
    inserted = {"rows": spec["rows"], "seconds": time.perf_counter() - begin, "versions": product.versions()}
    say(out, "inserting", inserted)
    begin = time.perf_counter()
    done = ", ".join(filter(None, [product.settle(), "a first search"]))
    first_answer(product, spec)  # some build their index only when they are asked
    say(out, "filled", {**inserted, "settled": done, "settle_s": time.perf_counter() - begin})
    product.kill()
    if not product.server:
        os.kill(os.getpid(), signal.SIGKILL)


def first_answer(product: Product, spec: dict[str, Any]) -> None:
    """Returns once one of the last acknowledged rows is found by its own vector.

    Raises:
        RuntimeError: there was no such answer within five minutes.
    """
    rows = np.arange(max(0, spec["rows"] - LAST_ROWS), spec["rows"])
    last = np.array(np.load(Path(spec["data"]) / "vectors.npy", mmap_mode="r")[rows])
    end, trouble = time.perf_counter() + RESTART_SECONDS, "the last rows were not found"
    while time.perf_counter() < end:
        try:
            search = product.searcher(spec["k"], None, product.settings()[0])
            for row, vector in zip(rows, last, strict=True):
                if row in search(vector[None]):
                    return
        except NotImplementedError:
            raise
        except Exception as error:  # whatever a client raises while its server starts
            trouble = f"{type(error).__name__}: {error}"
        time.sleep(0.02 if product.server else 0.5)
    raise RuntimeError(f"no correct answer within {RESTART_SECONDS:.0f} s: {trouble}")


def figure(run: Crew, product: Product, queries: int, spec: dict[str, Any], bound: int | None) -> tuple[Answers, str]:
    """Latency and answers under the product's fastest setting, and that setting."""
    tried = [(run(Job(queries, spec["k"], bound, setting, spec["seconds"])), setting) for setting in product.settings()]
    return min(tried, key=lambda pair: float(np.median(pair[0].seconds)))


def both_bounds(run: Crew, product: Product, clients: int, queries: int, spec: dict[str, Any], out: Path) -> None:
    """The figures of one number of clients and queries, without and with the bound, each saved when it is there."""
    for word, bound in (("plain", None), ("bounded", spec["bound"])):
        try:
            answers, setting = figure(run, product, queries, spec, bound)
        except NotImplementedError as error:
            say(out, f"{word}-{clients}-{queries}", {"missing": str(error)})
            continue
        name = f"{word}-{clients}-{queries}"
        np.savez(out / f"{name}.npz", seconds=answers.seconds, asked=answers.asked, ids=answers.ids)
        say(out, name, {"setting": setting, "calls": len(answers.seconds)})


def serve(product: Product, spec: dict[str, Any], out: Path) -> None:
    """Restart, searches, memory and disk."""
    begin = time.monotonic() if product.server else float(spec["begun"])
    product.start()
    try:
        first_answer(product, spec)
        restarted = time.monotonic() - begin
        say(out, "restarted", {"seconds": restarted, "count": product.count()})
        product.warm()
        queries = np.load(Path(spec["data"]) / "queries.npy")
        for per_call in PER_CALL:
            both_bounds(lambda job: alone(product, queries, job), product, 1, per_call, spec, out)
        with crew(product, spec["adapter"], queries, CLIENTS[1]) as run:
            for per_call in PER_CALL:
                both_bounds(run, product, CLIENTS[1], per_call, spec, out)
        memory = resident_bytes(product.family() or [os.getpid()])
        kept = disk_bytes(product.folder / product.ground)
        say(out, "served", {"rss_mb": memory / 1e6, "disk_mb": kept / 1e6})
    finally:
        product.close()


def main() -> None:
    """The command."""
    phase, spec = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
    out = Path(spec["out"])
    product = adapter(spec["adapter"])(Path(spec["folder"]), spec["dim"], spec["options"])
    try:
        {"fill": fill, "serve": serve}[phase](product, spec, out)
    except Exception as error:
        say(out, "trouble", {"what": " ".join(f"{type(error).__name__}: {error}".split())[:300]})
        raise
    finally:
        product.kill()


if __name__ == "__main__":
    main()
