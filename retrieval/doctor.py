"""What `panelhue doctor` wants to know of this room: FAISS, the data folder, the embedders' weights.

Each check is a mapping of texts: name, state ("ok", "warn" or "bad"), detail, and mend, which says what to do. Nothing
is changed, and no lock is taken.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

BUILDS = {"faiss-cpu": "cpu", "faiss-gpu-cuvs": "gpu", "faiss-gpu": "gpu-cu12"}  # distribution to extra
REMOTE = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "afs", "ceph", "glusterfs", "lustre"}


def checks(facts: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """Everything that can be said without a server.

    Args:
        facts: "data" is the data folder; "gpu" is not empty where the machine has an NVIDIA GPU.
    """
    yield from _faiss(bool(facts.get("gpu")))
    yield from _data(Path(facts["data"]))
    yield from _weights()


def _check(name: str, state: str, detail: str, mend: str = "") -> Mapping[str, str]:
    return {"name": name, "state": state, "detail": detail, "mend": mend}


def _installed() -> dict[str, str]:
    found = {}
    for name in BUILDS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _faiss(gpu: bool) -> Iterator[Mapping[str, str]]:
    from retrieval.index.library import faiss_version, gpu_count
    from serving.errors import FailedState

    builds = _installed()
    said = ", ".join(f"{name} {number}" for name, number in builds.items()) or "none"
    if len(builds) > 1:
        mend = f"pip uninstall -y {' '.join(builds)}, then pip install 'panelhue[{'gpu' if gpu else 'cpu'}]'"
        yield _check("FAISS", "bad", f"{said}: these builds own the same folder and break each other", mend)
        return
    for name in builds:
        if older := _older(name, builds[name]):
            mend = f"pip install --upgrade 'panelhue[{BUILDS[name]}]'"
            yield _check("FAISS", "bad", f"{said}: Panelhue needs {name} {older} or a later one", mend)
            return
    try:
        built = faiss_version()
    except FailedState as error:
        yield _check("FAISS", "bad", error.message, f"pip install 'panelhue[{'gpu' if gpu else 'cpu'}]'")
        return
    extra = next((BUILDS[name] for name in builds), "")
    if gpu and not gpu_count():
        mend = "" if extra != "cpu" else "pip uninstall -y faiss-cpu && pip install 'panelhue[gpu]' (CUDA 12: gpu-cu12)"
        yield _check("FAISS", "warn", f"{built}, {said}: it cannot use the GPU of this machine", mend)
    else:
        yield _check("FAISS", "ok", f"{built}, {said}")


def _older(name: str, there: str) -> str:
    """The lowest version that will do, if what is there is older; empty: it is not."""
    for text in requires("panelhue") or ():
        found = re.match(rf"{re.escape(name)}\s*\(?\s*>=\s*([0-9.]+)", text)
        if found and _numbers(there) < _numbers(found[1]):
            return found[1]
    return ""


def _numbers(text: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", text)]


def _data(folder: Path) -> Iterator[Mapping[str, str]]:
    name = "data folder"
    if not folder.exists():
        above = next(path for path in folder.parents if path.exists())
        if os.access(above, os.W_OK | os.X_OK):
            yield _check(name, "ok", f"{folder} is not there yet; `panelhue up` makes it")
        else:
            mend = f"make {folder} writable for you, or choose another one: panelhue up --data DIR"
            yield _check(name, "bad", f"{folder} is not there and cannot be made: {above} is not writable", mend)
        return
    if not folder.is_dir():
        yield _check(name, "bad", f"{folder} is a file", "choose a folder: panelhue up --data DIR")
        return
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            mend = "mount that disk for writing, or choose another folder: panelhue up --data DIR"
            yield _check(name, "bad", f"{folder} lies on a disk that is mounted read-only", mend)
        else:
            mend = f"chown -R $(id -un) {shlex.quote(str(folder))}"
            yield _check(name, "bad", f"{folder} cannot be written to", mend)
        return
    yield _format(name, folder)
    yield _lock(folder)
    kind = _file_system(folder)
    if kind in REMOTE:
        mend = "move it to a local disk: LMDB's locks and maps do not work over a network"
        yield _check("data folder's disk", "bad", f"{folder} lies on {kind}", mend)


def _format(name: str, folder: Path) -> Mapping[str, str]:
    from retrieval.folder import FORMAT_NAME
    from retrieval.records import FORMAT_VERSION

    try:
        fields = json.loads((folder / "FORMAT").read_text())
        kind, number = str(fields["format"]), int(fields["version"])
    except FileNotFoundError:
        strangers = [path.name for path in folder.iterdir() if path.name not in ("LOCK", "FORMAT.draft")]
        if not strangers:
            return _check(name, "ok", f"{folder}, empty")
        return _check(
            name, "bad", f"{folder} holds {strangers[0]} and no FORMAT file, so it is no data folder",
            "choose another one: panelhue up --data DIR",
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        return _check(name, "bad", f"{folder}/FORMAT cannot be read: {error}", "restore the folder from a backup")
    if kind != FORMAT_NAME or number < 1:
        return _check(
            name, "bad", f"{folder}/FORMAT says {kind} {number}, expected {FORMAT_NAME}", "choose another folder"
        )
    if number > FORMAT_VERSION:
        detail = f"{folder} has format {number}; this Panelhue knows formats up to {FORMAT_VERSION}"
        return _check(name, "bad", detail, "pip install --upgrade panelhue")
    count = sum(1 for _ in (folder / "series").iterdir()) if (folder / "series").is_dir() else 0
    return _check(name, "ok", f"{folder}, format {number}, {count} series")


def _lock(folder: Path) -> Mapping[str, str]:
    """By the process id in the file; the lock itself is left alone, so that a server can start meanwhile."""
    import psutil

    name = "data folder's lock"
    try:
        text = (folder / "LOCK").read_text().strip()
    except OSError:
        text = ""
    if not text.isdecimal() or not psutil.pid_exists(int(text)):
        return _check(name, "ok", "free")
    try:
        return _check(name, "ok", f"held by process {text} ({psutil.Process(int(text)).name()})")
    except psutil.Error:
        return _check(name, "ok", f"held by process {text}")


def _file_system(folder: Path) -> str:
    import psutil

    where = folder.resolve()
    mounts = [part for part in psutil.disk_partitions(all=True) if where.is_relative_to(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else ""


def _weights() -> Iterator[Mapping[str, str]]:
    from retrieval.embed.patchnet.network import SHIPPED, Network
    from serving.errors import ServiceError

    try:
        network = Network(SHIPPED)
    except ServiceError as error:
        yield _check("weights of patchnet", "bad", error.message, "pip install --force-reinstall --no-deps panelhue")
        return
    yield _check("weights of patchnet", "ok", f"sha256 {network.sha256[:12]}…, as shipped")
