"""What can be wrong with an installation, and how to mend it. Other rooms add, by entry point, what only they know."""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, requires, version
from pathlib import Path

from panelhue.errors import PanelhueError, ServerError, Timeout, Unauthenticated, Unavailable

GROUP = "panelhue.doctor"  # entry points: functions from {"data": …, "gpu": …} to mappings of texts
RETRIEVAL, COLORIZER = "retrieval server", "colouriser server"
PORTS = {RETRIEVAL: 50051, COLORIZER: 50052}
PROGRAMS = {RETRIEVAL: "panelhue retrieval-server", COLORIZER: "panelhue colorizer-server"}
ANSWER_SECONDS = 10.0  # that a server is given: one that is busy is not ill
LITTLE, NEARLY_NONE = 2 << 30, 256 << 20  # bytes of free disk
NAME = re.compile(r"[A-Za-z0-9._-]+")
OF_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")
OWN = re.compile(r"panelhue\[([^\]]+)\]")
LEFT_OUT = {"all", "bench", "dev"}  # extras that say nothing to who only uses it


class State(Enum):
    """How something is."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: State
    detail: str
    mend: str = ""  # what to do; empty where nothing is wrong


@dataclass(frozen=True)
class Place:
    """What is looked at."""

    data: Path  # the pools' folder
    retrieval: str  # address
    colorizer: str  # address
    token: str = field(default="", repr=False)  # that the colouriser asks for


def checks(place: Place) -> Iterator[Check]:
    """Everything, as it is found; nothing raises, and nothing is changed."""
    gpu, gpu_check = _gpu()
    yield from _versions()
    yield gpu_check
    yield from _extras()
    yield from _rooms({"data": str(place.data), "gpu": gpu})
    yield from _disk(place.data)
    yield from _servers(place)


def _own_version() -> str:
    try:
        return version("panelhue")
    except PackageNotFoundError:
        return "0"


def _versions() -> Iterator[Check]:
    yield Check("Panelhue", State.OK, f"{_own_version()}, in {Path(__file__).parent}")
    found = platform.python_version()
    detail = f"{found} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    yield Check("Python", State.OK, detail)  # an older one than is supported does not get as far as this
    if platform.system() == "Windows":
        yield Check("system", State.BAD, "Windows", "use WSL: the servers and resuming need POSIX locks")


def _gpu() -> tuple[str, Check]:
    """Names of the NVIDIA GPUs, and the check."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        return "", Check("GPU", State.OK, "none; everything that Panelhue needs runs on the CPU")
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", Check("GPU", State.WARN, f"nvidia-smi does not answer: {error}", "restart the driver or the machine")
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()
        why = said[0] if said else f"exit code {done.returncode}"
        return "", Check(
            "GPU", State.WARN, f"nvidia-smi fails: {why}", "mend the NVIDIA driver; until then the CPU works"
        )
    names = "; ".join(line.strip() for line in done.stdout.splitlines() if line.strip())
    return names, Check("GPU", State.OK, names or "none")


def _extras() -> Iterator[Check]:
    wanted: dict[str, list[str]] = {}
    for text in requires("panelhue") or ():
        name, extra, own = NAME.match(text), OF_EXTRA.search(text), OWN.match(text)
        if name and extra and not own:
            wanted.setdefault(extra[1], []).append(name[0])
    there = {extra: [name for name in names if not _has(name)] for extra, names in wanted.items()}
    whole = [extra for extra, missing in there.items() if not missing and extra not in LEFT_OUT]
    lacking = [extra for extra, missing in there.items() if missing and extra not in LEFT_OUT]
    detail = f"installed: {', '.join(whole) or 'none'}; not installed: {', '.join(lacking) or 'none'}"
    yield Check("extras", State.OK, detail)


def _has(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def rooms() -> list[EntryPoint]:
    """The other rooms' own checks."""
    return sorted(entry_points(group=GROUP), key=lambda point: point.name)


def _rooms(facts: Mapping[str, str]) -> Iterator[Check]:
    for point in rooms():
        try:
            ask: Callable[[Mapping[str, str]], Iterable[Mapping[str, str]]] = point.load()
            for one in ask(facts):
                yield Check(one["name"], State(one["state"]), one["detail"], one.get("mend", ""))
        except Exception as error:  # whatever it is, the other checks go on
            why = f"its checks end with {type(error).__name__}: {error}"
            yield Check(f"room {point.name}", State.BAD, why, "pip install --force-reinstall --no-deps panelhue")


def _disk(data: Path) -> Iterator[Check]:
    elsewhere = ("move the data: panelhue up --data DIR", "set TMPDIR to a folder with more")
    else_what = (
        "the retrieval server stops taking anything in",
        "books are not unpacked, and the studio takes no files",
    )
    folders = (("disk of the data", data), ("disk for drafts", Path(tempfile.gettempdir())))
    for (name, folder), other, what in zip(folders, elsewhere, else_what, strict=True):
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free
        detail = f"{free / 2**30:.1f} GiB free at {there}"
        if free < NEARLY_NONE:
            yield Check(name, State.BAD, detail, f"make room, or {other}; soon {what}")
        elif free < LITTLE:
            yield Check(name, State.WARN, detail, f"make room, or {other}")
        else:
            yield Check(name, State.OK, detail)


def _servers(place: Place) -> Iterator[Check]:
    from panelhue.colorizer_client import ColorizerClient
    from panelhue.retries import Retry
    from panelhue.retrieval_client import RetrievalClient

    with RetrievalClient(place.retrieval, timeout=ANSWER_SECONDS, retry=Retry.none()) as pools:
        yield from _server(RETRIEVAL, place.retrieval, pools.info, _of_retrieval)
    with ColorizerClient(place.colorizer, timeout=ANSWER_SECONDS, retry=Retry.none(), token=place.token) as painter:
        yield from _server(COLORIZER, place.colorizer, painter.info, _of_colorizer)


def _server(
    name: str, target: str, ask: Callable[[], object], more: Callable[[object], Iterator[Check]]
) -> Iterator[Check]:
    try:
        info = ask()
    except Unavailable:
        yield _silent(name, target)
        return
    except Unauthenticated as error:
        mend = "say the token in PANELHUE_COLORIZER_TOKEN, or by --token"
        yield Check(name, State.BAD, f"{target}: {error.message}", mend)
        return
    except ServerError as error:
        yield Check(name, State.BAD, f"{target}: {error.message}", _mend_of(error))
        return
    except PanelhueError as error:
        yield Check(name, State.BAD, f"{target}: {error.message}", "is this a Panelhue server?")
        return
    theirs, ours = str(getattr(info, "version", "")), _own_version()
    if theirs != ours:
        mend = "install the same version on both sides, then restart the servers"
        yield Check(name, State.WARN, f"{target} runs version {theirs}, this command is {ours}", mend)
    else:
        yield Check(name, State.OK, f"{target} answers, version {theirs}")
    yield from more(info)


def _mend_of(error: ServerError) -> str:
    if error.reason == "UNIMPLEMENTED":  # somebody answers, and has never heard of the call
        return (
            "another kind of server answers there: are --retrieval and --colorizer the wrong way round? A proxy in "
            "http_proxy answers, too; then set no_proxy"
        )
    if isinstance(error, Timeout):
        return "it is busy, or stands still: look at its log, and start it anew if that does not end"
    return "look at the server's log"


def _silent(name: str, target: str) -> Check:
    """Nobody answers: is the port free, or has somebody else taken it?"""
    host, colon, port = target.rpartition(":")
    if not colon or not port.isdecimal():
        return Check(
            name, State.BAD, f"{target} is no address", f"write it as HOST:PORT, such as 127.0.0.1:{PORTS[name]}"
        )
    if not _is_here(host):
        return Check(name, State.WARN, f"{target} does not answer", "start it there, or look at the network between")
    owner = _owner(int(port))
    if owner is None:
        mend = f"start both servers: panelhue up; or, if the other one runs, this one: {PROGRAMS[name]}"
        return Check(name, State.WARN, f"{target} does not answer; the port is free", mend)
    mend = "stop that process, or use other ports: panelhue up --retrieval-listen … --colorizer-listen …"
    return Check(name, State.BAD, f"{target} does not answer as a Panelhue server; the port is taken by {owner}", mend)


def _is_here(host: str) -> bool:
    return host.strip("[]") in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "")  # noqa: S104 - it is only compared


def _owner(port: int) -> str | None:
    """Who listens on a port of this machine; None: nobody."""
    import psutil

    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", port)) != 0:
            return None
    try:
        for one in psutil.net_connections(kind="tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr.port == port and one.pid:
                return f"process {one.pid} ({psutil.Process(one.pid).name()})"
    except psutil.Error:  # the system does not tell everybody
        pass
    return "a process of somebody else"


def _of_retrieval(info: object) -> Iterator[Check]:
    from panelhue.types import RetrievalInfo

    assert isinstance(info, RetrievalInfo)
    if info.read_only:
        yield Check("server's store", State.BAD, "it cannot be written to", "make room on the server's disk")
    detail = (
        f"FAISS {info.faiss}, indexes take {info.index_bytes / 2**20:.0f} MiB, embedders {', '.join(info.embedders)}"
    )
    yield Check("server's index", State.OK, detail)


def _of_colorizer(info: object) -> Iterator[Check]:
    from panelhue.types import ColorizerInfo

    assert isinstance(info, ColorizerInfo)
    load = f"{info.queue_length} of {info.queue_capacity} places taken, {info.workers} workers"
    if info.has_retrieval:
        yield Check("server's queue", State.OK, load)
    else:
        mend = "start it with --retrieval HOST:PORT, or use `panelhue up`; until then the command fetches them itself"
        yield Check("server's queue", State.WARN, f"{load}; it has no retrieval server", mend)
