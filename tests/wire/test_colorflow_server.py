"""The back-end colorflow through real servers, in a child process: small random weights, a series' references."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from panelhue.colorizer.v1 import colorizer_pb2 as pb
from panelhue.retrieval.v1 import retrieval_pb2
from tests import tiny_colorflow
from tests.wire.colorizer_live import Live, connected, wait_until
from tests.wire.colorizer_talk import colorize, colour_picture, decoded, encoded, grey_page, hit, page
from tests.wire.conftest import RunningServer
from tests.wire.remote_servers import child_of, says
from tests.wire.speaking import adding, picture, stub_of
from tests.wire.test_page_batches import inside

SMALL = {"area": str(128 * 128)}


@pytest.fixture(scope="module")
def server(retrieval_server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose only heavy back-end is colorflow on the CPU; its weights are small and mean nothing."""
    folder = tmp_path_factory.mktemp("colorflow")
    tiny = tiny_colorflow.make(folder / "models")
    given = {"models": str(tiny.models), "accept_licence": "non-commercial", "device": "cpu", "prompts": str(folder)}
    flags = {
        "backend_settings": json.dumps({"colorflow": given}),
        "default_backend": "colorflow",
        "retrieval": retrieval_server.address,
        "log_format": "json",
    }
    settings = [part for key, value in flags.items() for part in ("--set", f"{key}={value}")]
    home = {"XDG_CACHE_HOME": str(folder / "cache")}
    started = RunningServer("colorizer-server", folder / "server", *settings, environment=home)
    started.address  # noqa: B018 - waits
    yield started
    started.stop()


def test_a_series_references_colour_a_page_in_a_process_of_its_own(
    server: RunningServer, retrieval_server: RunningServer
) -> None:
    with stub_of(retrieval_server.address) as retrieval:
        wanted = retrieval_pb2.Series(display_name="for colorflow")
        series = retrieval.CreateSeries(retrieval_pb2.CreateSeriesRequest(series=wanted)).series.id
        given = [
            (picture(1), retrieval_pb2.Reference(chapter=1000)),
            (picture(2), retrieval_pb2.Reference(chapter=2000)),
        ]
        for response in retrieval.AddReferences(adding(series, given)):
            assert response.status == retrieval_pb2.AddReferencesResponse.STATUS_ADDED, response
    context = pb.SeriesContext(series_id=series)
    answers = colorize(connected(server), page("p", grey_page(100, 140)), series=context, steps=2, parameters=SMALL)
    answer = answers.pages["p"]
    assert answer.result, answers.status
    assert len(answer.result.references) == 12  # three for each corner, as its card asks
    assert all(reference.used for reference in answer.result.references)
    assert answer.result.depth == 1
    assert "non-commercial" in answer.result.weights_licence
    assert np.ptp(decoded(answer.data).astype(int), axis=-1).max() > 8
    assert child_of(server, "colorflow") != server.process.pid


def test_its_card_tells_sha256_and_licence_of_the_weights(server: RunningServer) -> None:
    card = connected(server).GetBackend(pb.GetBackendRequest(name="colorflow")).backend
    assert card.available
    assert card.device == "cpu"
    assert "GraySD/unet_lora.bin" in card.weights_sha256
    assert all(len(digest) == 64 for digest in card.weights_sha256.values())


def test_neither_the_server_nor_the_childs_own_server_imports_torch(server: RunningServer) -> None:
    colorize(connected(server), page("p"), steps=1, parameters=SMALL)
    for pid in (server.process.pid, child_of(server, "colorflow")):
        assert "libtorch" not in Path(f"/proc/{pid}/maps").read_text()


def test_killed_in_mid_page_it_fails_that_page_alone_and_the_next_is_done(server: RunningServer) -> None:
    stub = connected(server)
    colorize(stub, page("warm"), steps=1, parameters=SMALL)
    live = Live(stub, steps=500, parameters=SMALL)
    live.send(page("busy"))
    wait_until(lambda: "busy" in live.answers.pages and len(live.answers.pages["busy"].progress) > 1, "progress")
    os.kill(child_of(server, "colorflow"), signal.SIGKILL)
    assert live.finish().pages["busy"].reason == "WORKER_DIED"
    after = colorize(stub, page("after"), steps=1, parameters=SMALL)
    assert after.pages["after"].result
    assert len(says(server, "backend.up", "colorflow")) >= 2


def test_previews_and_a_chroma_layer_come_through(server: RunningServer) -> None:
    stub = connected(server)
    hits = [hit(corner=corner) for corner in range(1, 5)]
    pictures = {"r": encoded(colour_picture())}
    one = page("p", grey_page(100, 140), hits, pictures)
    answers = colorize(stub, one, steps=3, preview_every=1, chroma_only=True, parameters=SMALL)
    assert answers.pages["p"].previews
    assert decoded(answers.pages["p"].data, "RGBA").shape == (140, 100, 4)


def test_pages_that_go_through_it_together_come_out_as_one_by_one(server: RunningServer) -> None:
    stub = connected(server)
    files = {key: grey_page(100, 140, seed) for seed, key in enumerate("abcd")}
    pages = {key: list(page(key, data, [hit()], {"r": encoded(colour_picture())})) for key, data in files.items()}
    given = {"steps": 2, "seed": 5, "parameters": SMALL}
    alone = {key: decoded(colorize(stub, one, **given).pages[key].data) for key, one in pages.items()}
    before = Live(stub, steps=1000, parameters=SMALL)
    before.send(page("before"))
    wait_until(lambda: "before" in before.answers.pages and bool(before.answers.pages["before"].progress), "progress")
    together = Live(stub, **given)
    for one in pages.values():
        together.send(one)
    child, metadata = inside(server, "colorflow")
    info = pb.GetServerInfoRequest()
    wait_until(lambda: child.GetServerInfo(info, metadata=metadata).queue_length == 5, "the pages in the child")
    before.call.cancel()
    wait_until(lambda: bool(together.answers.pages["d"].progress), "the last page's progress")
    assert not together.answers.ended  # they are at it together
    answers = together.finish()
    assert answers.ended == list("abcd")
    for key, expected in alone.items():
        off = np.abs(decoded(answers.pages[key].data).astype(int) - expected.astype(int)) > 2
        assert off.mean() <= 0.01, f"page {key}: {off.mean():.2%} of the values differ by more than 2"
    assert np.ptp(alone["a"].astype(int), axis=-1).max() > 8


def test_it_keeps_every_promise_over_the_wire(server: RunningServer) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "panelhue",
            "conformance",
            "--target",
            server.address,
            "--backend",
            "colorflow",
            "--parameter",
            "area=4096",
            "--parameter",
            "guidance=1",
            "--json",
        ],
        capture_output=True,
        text=True,
        timeout=280,
    )
    broken = [finding for finding in json.loads(done.stdout)["findings"] if finding["problem"]]
    assert not broken
    assert done.returncode == 0
