"""Real servers in processes of their own, on free ports, for every wire test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from panelhue.retrieval.v1 import retrieval_pb2 as pb
from tests.wire.speaking import fill, stub_of

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS, END_SECONDS = 240.0, 120.0  # patience with a machine that has other things to do


class RunningServer:
    """A server's process; `address` waits until it is ready."""

    def __init__(self, command: str, folder: Path, *flags: str, environment: dict[str, str] | None = None) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.ready_file = folder / "ready.json"
        self.ready_file.unlink(missing_ok=True)  # of an earlier process that was killed
        self.log = folder / "log.txt"
        path = f"{ROOT}{os.pathsep}{ROOT / 'clients' / 'python'}"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "panelhue", command),
                    *("--listen", "127.0.0.1:0", "--ready-file", str(self.ready_file)),
                    *flags,
                ],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **(environment or {})},
                stdout=log,
                stderr=log,
            )

    @property
    def address(self) -> str:
        deadline = time.monotonic() + START_SECONDS
        while not self.ready_file.exists():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, f"not ready: {self.log.read_text()}"
            time.sleep(0.01)
        address: str = json.loads(self.ready_file.read_text())["address"]
        return address

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal and waits for the end; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(END_SECONDS)


Starter = Callable[..., RunningServer]


@pytest.fixture
def start_retrieval(tmp_path: Path) -> Iterator[Starter]:
    """Starts retrieval servers with flags of the test's own: `start_retrieval("--set", "max_series=1", data=...)`."""
    started: list[RunningServer] = []

    def start(*flags: str, data: Path | None = None, environment: dict[str, str] | None = None) -> RunningServer:
        folder = tmp_path / f"server-{len(started)}"
        data = data or tmp_path / "data"
        started.append(RunningServer("retrieval-server", folder, "--data", str(data), *flags, environment=environment))
        return started[-1]

    yield start
    for server in started:
        server.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def retrieval_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One retrieval server for all tests that need no settings of their own; each makes its own series."""
    folder = tmp_path_factory.mktemp("retrieval")
    server = RunningServer("retrieval-server", folder, "--data", str(folder / "data"))
    server.address  # noqa: B018 - waits
    yield server
    server.stop()


@pytest.fixture(scope="session")
def kept(retrieval_server: RunningServer) -> str:
    """The id of a series in `retrieval_server` for tests that only look: see `fill`."""
    with stub_of(retrieval_server.address) as stub:
        return fill(stub, stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(id="kept"))).series.id)


def probe_settings(**changes: object) -> list[str]:
    """Flags of a colouriser server that has the test back-ends beside its own."""
    names = ("PROBE", "MISSING", "UNLOADABLE", "CUDA", "HIDDEN_IMPORT")
    settings = {
        "extra_backends": [f"tests.wire.colorizer_backends:{name}" for name in names],
        "default_backend": "probe",
        "in_process": ["colorflow"],  # which would have a queue of its own
        "log_format": "json",
        **changes,
    }
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in settings.items()}
    return [part for key, value in texts.items() for part in ("--set", f"{key}={value}")]


@pytest.fixture
def start_colorizer(tmp_path: Path) -> Iterator[Starter]:
    """Starts colouriser servers with settings of the test's own, `start_colorizer(queue=0)`, and waits for them."""
    started: list[RunningServer] = []

    def start(**settings: object) -> RunningServer:
        folder = tmp_path / f"colorizer-{len(started)}"
        started.append(RunningServer("colorizer-server", folder, *probe_settings(**settings)))
        started[-1].address  # noqa: B018 - waits
        return started[-1]

    yield start
    for server in started:
        server.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def colorizer_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One colouriser server with the test back-ends, one worker and no retrieval server."""
    server = RunningServer("colorizer-server", tmp_path_factory.mktemp("colorizer"), *probe_settings())
    server.address  # noqa: B018 - waits
    yield server
    server.stop()
