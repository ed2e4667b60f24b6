"""A hundred kills: SIGKILL of the retrieval server at random moments of everything that writes, and what is there
after.

In each life of the server several threads write at once: imports, removals, changes, compactions, snapshots, restores
of snapshots in their place, and migrations to another embedding space and back. At a random moment the process is
killed. The next life must show: every acknowledged reference that no acknowledged removal names, with its bytes; none
whose removal was acknowledged; nothing half-done (CheckSeries finds nothing, counts agree); every acknowledged
snapshot, verified by a restore into another name now and then. What was in flight at the kill may be there or not, but
whole.

A restore in place takes the pool back to an acknowledged snapshot; it happens alone, so that what must be there after
it is known. Seeded: the same seed draws the same moments and operations, not the same interleaving.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from PIL import Image

from benchmarks.pools import Stubs, create, fill, reference, reference_id, stubs
from benchmarks.report import RESULTS, write_results
from benchmarks.servers import Running, start, stop
from panelhue.common.v1 import common_pb2 as common
from panelhue.retrieval.v1 import maintenance_pb2 as mt
from panelhue.retrieval.v1 import retrieval_pb2 as pb

DIM = 64
VECTORS, PICTURES = "vectors", "pictures"  # two series: ready-made vectors, and pictures that can be embedded anew
VARIANTS = '{"other": {"embedder": "structure", "crop_recipe": "fit:64x96"}}'
BREATH = 0.02  # seconds between two operations of a thread, so that the slow ones come to an end too
LONGEST = 2.0  # seconds from the first operation to the kill, at most; three times that in every third life


def picture(number: int) -> bytes:
    """A small colour picture, different for each number."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 4, 3), dtype=np.uint8))
    out = io.BytesIO()
    coarse.resize((64, 96), Image.Resampling.BICUBIC).save(out, "PNG")
    return out.getvalue()


class Truth:
    """What must be there and what must not, by series; changed only when the server has acknowledged."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.there: dict[str, set[str]] = {VECTORS: set(), PICTURES: set()}
        self.maybe: dict[str, set[str]] = {VECTORS: set(), PICTURES: set()}  # asked for, never acknowledged
        self.ever: set[str] = set()  # of all series: everything that was ever asked for
        self.gone: set[str] = set()  # whose removal was acknowledged, unless a restore brought them back
        self.snapshots: dict[str, set[str]] = {}  # acknowledged, and what they must at least hold
        self.may_hold: dict[str, set[str]] = {}  # and may hold at most

    def add(self, series: str, ids: set[str]) -> None:
        """Acknowledged as added."""
        with self.lock:
            self.there[series] |= ids
            self.maybe[series] -= ids

    def remove(self, series: str, ids: set[str]) -> None:
        """Acknowledged as removed."""
        with self.lock:
            self.there[series] -= ids
            self.maybe[series] -= ids
            self.gone |= ids

    def unsure(self, series: str, ids: set[str]) -> None:
        """Asked for; may be there or not."""
        with self.lock:
            self.there[series] -= ids
            self.maybe[series] |= ids
            self.ever |= ids

    def both(self, series: str) -> tuple[set[str], set[str]]:
        """What must be there, and what may be there at most."""
        with self.lock:
            return set(self.there[series]), set(self.there[series] | self.maybe[series])


class Life:
    """One life of the server: writers in threads, until it is killed."""

    def __init__(self, servers: Stubs, truth: Truth, number: int, space: str, rng: random.Random) -> None:
        self.servers, self.truth, self.number, self.space, self.rng = servers, truth, number, space, rng
        self.done: Counter[str] = Counter()
        self.under_way: set[str] = set()
        self.dead = threading.Event()

    def loop(self, name: str, work: Callable[[int], None]) -> None:
        """Does `work` again and again until the server is dead."""
        turn = 0
        with contextlib.suppress(grpc.RpcError):
            while not self.dead.is_set():
                self.under_way.add(name)
                try:
                    work(turn)
                except grpc.RpcError as error:
                    # Two writers may meet; every other refusal would be a fault, and shows as a missing operation.
                    if error.code() not in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ABORTED,
                                            grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.NOT_FOUND):  # fmt: skip
                        raise
                else:
                    self.done[name] += 1
                    self.under_way.discard(name)
                turn += 1
                time.sleep(BREATH)

    def imports(self, turn: int) -> None:
        """Twenty references of made-up vectors."""
        rng = np.random.default_rng((self.number, turn))
        names = [f"{self.number}-{turn}-{n}" for n in range(20)]
        items = []
        for key in names:
            rows = rng.standard_normal((5, DIM), np.float32)
            items.append(reference(rows, turn % 7, key))
        ids = {reference_id(key) for key in names}
        self.truth.unsure(VECTORS, ids)
        fill(self.servers, VECTORS, self.space, items)
        self.truth.add(VECTORS, ids)

    def pictures(self, turn: int) -> None:
        """One picture that the server embeds."""
        data = picture(1000 * self.number + turn)
        options = pb.AddReferencesOptions(series_id=PICTURES)
        head = pb.ReferenceHeader(picture=common.PictureHeader(key="p"), reference=pb.Reference(chapter=turn % 5))
        chunk = common.PictureChunk(key="p", data=data, last=True)
        requests = [
            pb.AddReferencesRequest(options=options),
            pb.AddReferencesRequest(header=head),
            pb.AddReferencesRequest(chunk=chunk),
        ]

        key = {hashlib.sha256(data).hexdigest()}
        self.truth.unsure(PICTURES, key)
        for answer in self.servers.retrieval.AddReferences(iter(requests)):
            if answer.status == pb.AddReferencesResponse.STATUS_REJECTED:
                raise RuntimeError(f"a picture was rejected: {answer.failure.message}")
            self.truth.add(PICTURES, key)

    def removals(self, turn: int) -> None:
        """Three references, kept for the history or not."""
        series = VECTORS if turn % 3 else PICTURES
        there, _ = self.truth.both(series)
        if len(there) < 5:
            time.sleep(0.01)
            return
        ids = set(self.rng.sample(sorted(there), 3))
        self.truth.unsure(series, ids)
        request = pb.DeleteReferencesRequest(series_id=series, reference_ids=sorted(ids), purge=bool(turn % 2))
        self.servers.retrieval.DeleteReferences(request)
        self.truth.remove(series, ids)

    def changes(self, turn: int) -> None:
        """Another chapter for one reference."""
        there, _ = self.truth.both(VECTORS)
        if not there:
            time.sleep(0.01)
            return
        changed = pb.Reference(id=self.rng.choice(sorted(there)), chapter=1000 * (turn % 9))
        request = pb.UpdateReferenceRequest(series_id=VECTORS, reference=changed)
        request.update_mask.paths.append("chapter")
        self.servers.retrieval.UpdateReference(request)

    def compactions(self, turn: int) -> None:
        """Index and file made small."""
        series = VECTORS if turn % 2 else PICTURES
        self.servers.maintenance.CompactSeries(mt.CompactSeriesRequest(series_id=series, drop_history=turn % 4 == 3))

    def snapshots(self, turn: int) -> None:
        """One more snapshot."""
        name = f"s{self.number}-{turn}"
        least, _ = self.truth.both(VECTORS)
        with self.truth.lock:
            gone = set(self.truth.gone)
        self.servers.maintenance.CreateSnapshot(mt.CreateSnapshotRequest(series_id=VECTORS, name=name))
        there, _ = self.truth.both(VECTORS)
        with self.truth.lock:  # what was there before and after was there within; what came and went within may be
            self.truth.snapshots[name] = least & there
            self.truth.may_hold[name] = self.truth.ever - gone
        time.sleep(0.02)

    def migrations(self, turn: int) -> None:
        """To the other embedding space; now and then ended half-way."""
        embedder = "other" if turn % 2 == self.number % 2 else "structure"
        self.servers.maintenance.MigrateSeries(mt.MigrateSeriesRequest(series_id=PICTURES, embedder=embedder))
        time.sleep(0.05)
        if turn % 3 == 2:
            self.servers.maintenance.CancelMigration(mt.CancelMigrationRequest(series_id=PICTURES))


def listed(servers: Stubs, series: str) -> set[str]:
    """Ids of all references of a series."""
    found: set[str] = set()
    token = ""
    while True:
        request = pb.ListReferencesRequest(series_id=series, page_size=1000, page_token=token)
        answer = servers.retrieval.ListReferences(request)
        found.update(entry.id for entry in answer.references)
        token = answer.next_page_token
        if not token:
            return found


def look(servers: Stubs, truth: Truth, problems: list[str], life: int, *, every: bool) -> None:
    """What the server shows after a kill, held against what was acknowledged."""
    for series in (VECTORS, PICTURES):
        there, most = truth.both(series)
        found = listed(servers, series)
        problems += [f"life {life}: {series} lost {len(there - found)} acknowledged"] * bool(there - found)
        problems += [f"life {life}: {series} shows {len(found - most)} removed or unknown"] * bool(found - most)
        with truth.lock:  # what was in flight is settled now
            truth.there[series], truth.maybe[series] = set(found), set()
            truth.gone -= found  # a restore brings back what was removed
        stats = servers.retrieval.GetSeriesStats(pb.GetSeriesStatsRequest(series_id=series))
        if (stats.references, stats.patches) != (len(found), 5 * len(found)):
            problems.append(f"life {life}: {series} counts {stats.references}, {stats.patches}, got {len(found)}")
        for step in servers.maintenance.CheckSeries(mt.CheckSeriesRequest(series_id=series)):
            problems += [f"life {life}: {series}: {step.finding}"] * bool(step.finding)
        if found:
            one = sorted(found)[life % len(found)]
            data = b"".join(
                part.chunk.data
                for part in servers.retrieval.DownloadReference(
                    pb.DownloadReferenceRequest(series_id=series, reference_id=one)
                )
            )

            problems += [f"life {life}: {one} has other bytes"] * (hashlib.sha256(data).hexdigest() != one)
    kept = {s.name for s in servers.maintenance.ListSnapshots(mt.ListSnapshotsRequest(page_size=1000)).snapshots}
    lost = set(truth.snapshots) - kept
    problems += [f"life {life}: lost the snapshots {sorted(lost)[:3]}"] * bool(lost)
    for name in sorted(truth.snapshots)[-1:] if every else ():
        restored(servers, truth, problems, life, name)


def restored(servers: Stubs, truth: Truth, problems: list[str], life: int, name: str) -> None:
    """A snapshot made into another series, which must hold what was there when it was made."""
    into = f"restored-{life}"
    servers.maintenance.RestoreSnapshot(
        mt.RestoreSnapshotRequest(series_id=VECTORS, name=name, into_series_id=into)
    )  # fmt: skip
    found = listed(servers, into)
    problems += [f"life {life}: snapshot {name} lacks references"] * bool(truth.snapshots[name] - found)
    servers.retrieval.DeleteSeries(pb.DeleteSeriesRequest(series_id=into, force=True))


def restore_in_place(life: Life) -> None:
    """Takes the pool back to its newest snapshot, alone; at the kill it is as before or as the snapshot."""
    truth = life.truth
    names = list(truth.snapshots)
    if not names:
        return
    name = names[-1]
    before, most = truth.both(VECTORS)
    with truth.lock:
        truth.there[VECTORS] = before & truth.snapshots[name]
        truth.maybe[VECTORS] = (most | truth.may_hold[name]) - truth.there[VECTORS]
    request = mt.RestoreSnapshotRequest(series_id=VECTORS, name=name, replace=True)
    life.under_way.add("restore")
    servers = life.servers
    with contextlib.suppress(grpc.RpcError):
        servers.maintenance.RestoreSnapshot(request)
        life.done["restore"] += 1
        life.under_way.discard("restore")
        with truth.lock:
            truth.there[VECTORS] = set(truth.snapshots[name])
            truth.maybe[VECTORS] = truth.may_hold[name] - truth.there[VECTORS]


def one_life(
    server: Running, truth: Truth, number: int, space: str, seed: int, totals: dict[str, Counter[str]]
) -> None:
    """Writes until the kill."""
    rng = random.Random((seed << 16) + number)
    moment = rng.uniform(0.02, LONGEST * (1 if number % 3 else 3))
    with stubs(server.address) as servers:
        life = Life(servers, truth, number, space, rng)
        if number % 5 == 4:
            threads = [threading.Thread(target=restore_in_place, args=(life,))]
            moment = rng.uniform(0.0, 1.5)
        else:
            works = {
                "import": life.imports, "add": life.pictures, "remove": life.removals, "change": life.changes,
                "compact": life.compactions, "snapshot": life.snapshots, "migrate": life.migrations,
            }  # fmt: skip
            threads = [threading.Thread(target=life.loop, args=item) for item in works.items()]
        for thread in threads:
            thread.start()
        time.sleep(moment)
        life.dead.set()
        server.process.kill()
        server.process.wait()
        for thread in threads:
            thread.join()
    totals["done"].update(life.done)
    totals["killed_in"].update(life.under_way)


def run(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """All lives."""
    truth = Truth()
    problems: list[str] = []
    totals: dict[str, Counter[str]] = {"done": Counter(), "killed_in": Counter()}
    flags = ("--data", str(folder / "data"), "--set", f"embedder_variants={VARIANTS}")
    begin, space, recoveries = time.perf_counter(), "", []
    for number in range(arguments.kills + 1):
        started = time.perf_counter()
        server = start("retrieval-server", folder, *flags)
        with stubs(server.address) as servers:
            if number == 0:
                space = create(servers, VECTORS, DIM)
                servers.retrieval.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(id=PICTURES)))
            else:
                recoveries.append(time.perf_counter() - started)
                look(servers, truth, problems, number, every=number % 10 == 0)
        if number == arguments.kills:
            stop(server)
        else:
            one_life(server, truth, number, space, arguments.seed, totals)
        if number % 10 == 0:
            print(number, len(problems), dict(totals["done"]), flush=True)
    return {
        "kills": arguments.kills,
        "seed": arguments.seed,
        "problems": len(problems),
        "first_problems": problems[:10],
        "operations_done": dict(totals["done"]),
        "killed_while_under_way": dict(totals["killed_in"]),
        "references_at_the_end": {series: len(ids) for series, ids in truth.there.items()},
        "snapshots_acknowledged": len(truth.snapshots),
        "start_s_median": float(np.median(recoveries)),
        "seconds": time.perf_counter() - begin,
    }


def main() -> None:
    """The command; see --help. Exits with 1 if anything was lost or half-done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="how many; default 100")
    parser.add_argument("--seed", type=int, default=4, help="of moments and operations")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON; default benchmarks/results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = run(Path(folder), arguments)
    print(results)
    print(write_results("kills", results, folder=arguments.out))
    raise SystemExit(1 if results["problems"] else 0)


if __name__ == "__main__":
    main()
