"""Programs that unpack archives: started without a terminal, watched, and stopped when they say too much or nothing."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from panelhue.archives import BLOCK
from panelhue.errors import BookError

SILENCE = 8.0  # seconds without a byte after which a program is taken for stuck
MAX_LISTING = 64 * 1024**2  # bytes


class Refused(Exception):
    """A program cannot read this archive."""


def copied(command: Sequence[str], out: IO[bytes], most: int, path: Path) -> tuple[int, str]:
    """A program's standard output, appended to a file; its exit code, and its complaint if that is not 0.

    Args:
        command: the program and its arguments.
        out: where the output goes.
        most: bytes that it may write.
        path: the archive, for messages.

    Raises:
        BookError: it writes more (ARCHIVE_TOO_LARGE), or nothing for 8 s (NOT_AN_ARCHIVE).
    """
    size = 0
    with tempfile.TemporaryFile() as complaints, _started(command, complaints) as process:
        for block in _blocks(process, command[0], path):
            size += len(block)
            if size > most:
                raise BookError(
                    f"{path.name} is refused as an archive bomb: it unpacks to more than {most} bytes",
                    reason="ARCHIVE_TOO_LARGE",
                )
            out.write(block)
        out.flush()
        code = process.wait()
        complaints.seek(0)
        return code, _short(complaints.read(4096), code) if code else ""


def _short(text: bytes, code: int) -> str:
    lines = [line.strip() for line in text.decode(errors="replace").splitlines()]
    told = [line for line in lines if line and not line.startswith(("7-Zip", "Open ERROR", "--"))]
    return "; ".join(told[:3])[:300] or f"exit status {code}"


@contextlib.contextmanager
def _started(command: Sequence[str], complaints: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    # In a session of its own it has no terminal on which it could ask for a password.
    process = subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=complaints,
        start_new_session=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _blocks(process: subprocess.Popen[bytes], program: str, path: Path) -> Iterator[bytes]:
    assert process.stdout is not None
    handle = process.stdout.fileno()
    while True:
        if not select.select([handle], [], [], SILENCE)[0]:
            raise BookError(
                f"{Path(program).name} has said nothing of {path.name} for {SILENCE:g} s; it was stopped",
                reason="NOT_AN_ARCHIVE",
            )
        block = os.read(handle, BLOCK)
        if not block:
            return
        yield block


def said(command: Sequence[str], path: Path) -> str:
    """What a program prints.

    Raises:
        Refused: it ends with another code than 0.
        BookError: the archive is encrypted (ARCHIVE_ENCRYPTED), or as `copied` raises it.
    """
    with tempfile.TemporaryFile() as out:
        code, complaint = copied(command, out, MAX_LISTING, path)
        out.seek(0)
        text = out.read().decode(errors="surrogateescape").replace("\r\n", "\n")
    if code:
        everything = f"{text}\n{complaint}".lower()
        if "password" in everything or "encrypted" in everything:
            raise BookError(f"{path.name} is encrypted; decrypt it first", reason="ARCHIVE_ENCRYPTED")
        raise Refused(complaint)
    return text


def lsar_listing(unar: str, path: Path) -> Iterator[tuple[str, int, int | None, bool, bool]]:
    """Name, bytes, CRC-32 if told, whether it is encrypted and whether it is a link, of each file; by unar's lsar."""
    text = said([str(Path(unar).with_name("lsar")), "-j", str(path)], path)
    try:
        contents = json.loads(text)["lsarContents"]
    except (ValueError, KeyError, TypeError) as error:
        raise Refused("lsar's listing cannot be read") from error
    for one in contents:
        if one.get("XADIsDirectory"):
            continue
        odd = any(one.get(f"XADIs{what}") for what in ("Link", "HardLink", "CharacterDevice", "BlockDevice", "FIFO"))
        crc = next((one[name] & 0xFFFFFFFF for name in ("RAR5CRC32", "RARCRC32") if name in one), None)
        yield str(one["XADFileName"]), int(one.get("XADFileSize", 0)), crc, bool(one.get("XADIsEncrypted")), odd


def unar_into(program: str, path: Path, folder: Path, largest: int) -> str:
    """Unpacks an archive into an empty folder; the program's complaint, empty if there is none.

    Args:
        program: unar.
        path: the archive.
        folder: where to.
        largest: bytes of the largest file that is listed; no file may become larger, whatever the archive says later.
    """
    blocks = str(-(-largest // 512) + 2048)
    # The shell's own limit on the size of a file holds for what it becomes.
    limited = ["sh", "-c", 'ulimit -f "$1"; shift; exec "$@"', "sh", blocks]
    with tempfile.TemporaryFile() as out:
        code, complaint = copied([*limited, program, "-o", str(folder), "-D", "-f", str(path)], out, MAX_LISTING, path)
    return complaint if code else ""
