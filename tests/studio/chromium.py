"""A headless Chromium that came from the npm registry: unpacked once, beside the package that brought it."""

from __future__ import annotations

import io
import os
import platform
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import brotli

HERE = Path(__file__).resolve().parent / "browser" / "node_modules"
PACKED = HERE / "@sparticuz" / "chromium" / "bin"
UNPACKED = HERE / ".unpacked"
FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{fonts}</dir><cachedir>{cache}</cachedir></fontconfig>
"""


@dataclass(frozen=True)
class Browser:
    """How to start it."""

    executable: Path
    arguments: list[str]
    environment: dict[str, str]


def browser() -> Browser:
    """The browser, unpacked.

    Raises:
        RuntimeError: the package is not there, or not for this machine; says what to do.
    """
    if not PACKED.is_dir():
        raise RuntimeError(f"there is no browser in {PACKED}; `make dev` brings it from the npm registry")
    if platform.machine() not in ("x86_64", "AMD64"):
        raise RuntimeError(f"the browser of the tests is made for x86-64 Linux, this is {platform.machine()}")
    if not (UNPACKED / "chromium").exists():
        _unpack()
    libraries = [str(UNPACKED / "al2023" / "lib"), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return Browser(
        UNPACKED / "chromium",
        ["--no-sandbox", "--no-zygote", "--disable-gpu", "--force-color-profile=srgb", "--font-render-hinting=none"],
        {**os.environ, "LD_LIBRARY_PATH": ":".join(libraries), "FONTCONFIG_FILE": str(UNPACKED / "fonts.conf")},
    )


def _unpack() -> None:
    # Two test workers may both be here: each unpacks into a folder of its own, and the first one's is taken.
    draft = UNPACKED.with_name(f".unpacked-{os.getpid()}")
    for name, folder in (("al2023.tar.br", "al2023"), ("fonts.tar.br", ""), ("swiftshader.tar.br", "")):
        with tarfile.open(fileobj=io.BytesIO(brotli.decompress((PACKED / name).read_bytes()))) as archive:
            archive.extractall(draft / folder, filter="data")
    (draft / "fonts.conf").write_text(FONTS.format(fonts=UNPACKED / "fonts", cache=UNPACKED / "cache"))
    executable = draft / "chromium"
    executable.write_bytes(brotli.decompress((PACKED / "chromium.br").read_bytes()))
    executable.chmod(0o755)
    try:
        draft.rename(UNPACKED)
    except OSError:  # the other worker was first
        shutil.rmtree(draft)


if __name__ == "__main__":  # `make dev` unpacks it, which takes seconds that no test need wait for
    found = browser()
    subprocess.run([found.executable, "--version"], env=found.environment, check=True, stdout=subprocess.DEVNULL)
