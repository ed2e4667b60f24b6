"""What the retrieval server acknowledged is on the disk: after kill -9 at any moment, and by the order of its syncs."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import grpc
import pytest

from panelhue.common.v1 import common_pb2 as common
from panelhue.retrieval.v1 import retrieval_pb2 as pb
from tests.wire.conftest import END_SECONDS
from tests.wire.speaking import adding, answer, asking, chunks, header, id_of, picture, stub_of

KILLS = 12  # benchmarks.kills has hundreds
SEED = 20260
MOST_PICTURES = 30  # of one life; more than are taken before the kill
SHIM = Path(__file__).with_name("sync_shim.c")
MARKS = 6


def download(stub, reference_id: str) -> bytes:
    request = pb.DownloadReferenceRequest(series_id="s", reference_id=reference_id)
    return b"".join(message.chunk.data for message in stub.DownloadReference(request))


def listed(stub) -> dict[str, pb.Reference]:
    found, token = {}, ""
    while True:
        page = stub.ListReferences(pb.ListReferencesRequest(series_id="s", page_size=1000, page_token=token))
        found.update((reference.id, reference) for reference in page.references)
        token = page.next_page_token
        if not token:
            return found


def add_until_killed(stub, server, items, moment: float, first: str, acknowledged: dict[str, bytes]) -> None:
    """Adds pictures until the server is killed, `moment` seconds from the first "sent" or "acknowledged" one on."""
    begun = {"sent": threading.Event(), "acknowledged": threading.Event()}

    def requests():
        for request in adding("s", [(data, pb.Reference(chapter=n, tags=[f"n{n}"])) for n, data in items]):
            yield request
            begun["sent"].set()

    def kill():
        begun[first].wait(120)
        time.sleep(moment)
        server.process.kill()

    by_key = {str(place): data for place, (_, data) in enumerate(items)}
    killer = threading.Thread(target=kill)
    killer.start()
    call = stub.AddReferences(requests())
    with contextlib.suppress(grpc.RpcError):
        for response in call:
            assert response.status == pb.AddReferencesResponse.STATUS_ADDED
            acknowledged[response.reference.id] = by_key[response.key]
            begun["acknowledged"].set()
    assert call.code() in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    killer.join()
    server.process.wait(END_SECONDS)


def check(stub, acknowledged: dict[str, bytes], sent: dict[str, tuple[int, bytes]], fresh: set[str]) -> None:
    """Everything acknowledged is there, and what is there is whole."""
    found = listed(stub)
    assert set(acknowledged) <= set(found) <= set(sent)
    stats = stub.GetSeriesStats(pb.GetSeriesStatsRequest(series_id="s"))
    assert (stats.references, stats.patches, stats.generation) == (len(found), 5 * len(found), len(found))
    assert sorted(reference.generation for reference in found.values()) == list(range(1, len(found) + 1))
    for reference_id in fresh & set(found):
        number, data = sent[reference_id]
        assert download(stub, reference_id) == data
        reference = found[reference_id]
        assert (reference.chapter, list(reference.tags), reference.byte_size) == (number, [f"n{number}"], len(data))
    summary, _ = answer(stub.RetrieveContext(asking("s", picture(0), hits_per_corner=1)))
    assert summary.candidates == 5 * len(found)


def test_what_was_acknowledged_survives_being_killed(start_retrieval):
    rng = random.Random(SEED)
    acknowledged: dict[str, bytes] = {}
    sent: dict[str, tuple[int, bytes]] = {}
    fresh: set[str] = set()
    number, lives_with_acknowledgements = 0, 0
    for life in range(KILLS):
        server = start_retrieval("--set", "ingest_window=8")
        with stub_of(server.address) as stub:
            if life == 0:
                stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(id="s")))
            else:
                check(stub, acknowledged, sent, fresh)
            items = [(n, picture(n, 32, 32)) for n in range(number, number + MOST_PICTURES)]
            number += MOST_PICTURES
            fresh = {id_of(data) for _, data in items}
            sent.update((id_of(data), (n, data)) for n, data in items)
            before = len(acknowledged)
            first = "acknowledged" if life % 2 else "sent"  # a slow machine may acknowledge nothing for long
            add_until_killed(stub, server, items, rng.uniform(0.0, 0.5), first, acknowledged)
            lives_with_acknowledgements += len(acknowledged) > before
    with stub_of(start_retrieval().address) as stub:
        check(stub, acknowledged, sent, set(sent))
    assert lives_with_acknowledgements >= KILLS // 4, "the kills came too early to show anything"
    assert len(acknowledged) < len(sent), "the kills came too late to show anything"


def test_what_was_being_removed_at_the_kill_is_gone_after_it(start_retrieval, tmp_path):
    server = start_retrieval()
    with stub_of(server.address) as stub:
        stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(id="s")))
    server.stop(signal.SIGKILL)
    data = tmp_path / "data"
    (data / "series" / "s").rename(data / "trash" / "old-s")  # as far as a killed removal gets
    (data / "trash" / "new-t").mkdir()  # as far as a killed creation gets
    with stub_of(start_retrieval().address) as stub:
        assert not stub.ListSeries(pb.ListSeriesRequest()).series
    assert not list((data / "trash").iterdir())


# -- the order of syncs


def acknowledged_unsynced(log: list[str]) -> list[str]:
    """The marks that were answered before their bytes were written, synced, and made valid by a synced write."""
    wrong = []
    for place, line in enumerate(log):
        if line.startswith("answer "):
            mark = line.split()[1]
            rest = iter(log[:place])
            steps = [f"write {mark}", "sync", "dsync"]
            if not all(any(event.strip() == step for event in rest) for step in steps):
                wrong.append(mark)
    return wrong


@pytest.mark.parametrize(
    ("log", "wrong"),
    [
        (["write 1", "sync", "dsync", "answer 1"], []),
        (["sync", "dsync", "write 1", "answer 1"], ["1"]),
        (["write 1", "dsync", "answer 1", "sync"], ["1"]),
        (["write 1", "sync", "answer 1", "dsync"], ["1"]),
        (["write 1", "sync", "dsync", "answer 1", "write 2", "answer 2", "sync", "dsync"], ["2"]),
    ],
)
def test_the_reader_of_the_log_sees_a_late_sync(log, wrong):
    assert acknowledged_unsynced(log) == wrong


@pytest.fixture(scope="module")
def shim(tmp_path_factory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        assert not os.environ.get("CI"), "CI needs a C compiler for this test"
        pytest.skip("no C compiler")
    library = tmp_path_factory.mktemp("shim") / "sync_shim.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SHIM), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


def test_every_answer_comes_after_its_sync(start_retrieval, shim, tmp_path):
    log = tmp_path / "order.txt"
    server = start_retrieval(environment={"LD_PRELOAD": str(shim), "SYNC_SHIM_LOG": str(log)})
    with stub_of(server.address) as stub:
        stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(id="s")))

        def requests():
            yield pb.AddReferencesRequest(options=pb.AddReferencesOptions(series_id="s"))
            for mark in range(1, MARKS + 1):
                name = f"sync-mark-{mark}."
                yield header(name, pb.Reference(provenance=common.Provenance(source="plain")))
                yield from chunks(name, picture(mark) + name.encode())  # what follows a PNG is stored with it

        answers = [response.status for response in stub.AddReferences(requests())]
        assert answers == [pb.AddReferencesResponse.STATUS_ADDED] * MARKS
    server.stop()
    events = log.read_text().splitlines()
    marks = {line.split()[1] for line in events if line.startswith("answer ")}
    assert marks == {str(mark) for mark in range(1, MARKS + 1)}, "the shim must see every answer"
    assert acknowledged_unsynced(events) == []
