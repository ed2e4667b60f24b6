"""Where model folders come from: a local folder, or a hub name whose files the local cache or the hub itself has.

`huggingface_hub` is imported in this module alone, and only when a hub name has to be looked up.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from colorizer.backends.colorflow.files import BASE_HUBS, Home, Homes, Part, parts_of
from serving.errors import InvalidInput, NotFound, Unavailable

BLOCK = 4 << 20  # bytes read at a time
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def base_folder_name(home: Home) -> str:
    """The name of a base model's folder inside the model folder."""
    return BASE_HUBS[home].rpartition("/")[2]


def is_hub_name(source: str) -> bool:
    """Whether that text has the form "owner/name"; a folder of that name goes first."""
    return _HUB_NAME.fullmatch(source) is not None


def homes(
    model: str | Path,
    *,
    bases: Mapping[Home, str] | None = None,
    parts: Iterable[Part] = (),
    download: bool = False,
) -> Homes:
    """The model folder and the base models that the parts lie in.

    A base model is what `bases` names. Where that is the usual hub name, or nothing, a folder of the base's name
    inside the model folder goes first.

    Args:
        model: a folder, or a hub name.
        bases: folder or hub name by home; "" is like no entry.
        parts: decides which bases are looked for, and which files of a hub repository are needed.
        download: fetch what the local hub cache lacks; never done while HF_HUB_OFFLINE is set.

    Raises:
        NotFound: no such model folder; a base model that cannot be had is a reason in the answer instead.
    """
    wanted = tuple(parts)
    top = _resolved(str(model), [part for part in wanted if part.home == "model"], download=download)
    found: dict[Home, Path | None] = {}
    reasons: dict[Home, str] = {}
    for home in dict.fromkeys(part.home for part in wanted if part.home != "model"):
        inside = top / base_folder_name(home)
        source = (bases or {}).get(home, "") or BASE_HUBS[home]
        source = str(inside) if source == BASE_HUBS[home] and inside.is_dir() else source
        try:
            found[home] = _resolved(source, [part for part in wanted if part.home == home], download=download)
        except (NotFound, Unavailable) as error:
            found[home] = None
            reasons[home] = error.message
    return Homes(top, found, reasons)


def _resolved(source: str, parts: Sequence[Part], *, download: bool) -> Path:
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if not is_hub_name(source):
        raise NotFound(f"there is no model folder {source}", reason="MODEL_FOLDER_NOT_FOUND")
    return from_hub(source, parts, download=download)


def from_hub(name: str, parts: Sequence[Part], *, download: bool) -> Path:
    """The snapshot of a hub repository in the local cache, fetched first if `download` and HF_HUB_OFFLINE allow it.

    Raises:
        NotFound: the cache does not have it and nothing may be downloaded.
        Unavailable: the hub cannot be reached, or refuses.
    """
    hub = Hub()
    if download and not hub.offline:
        wanted = chosen(parts, hub.sizes(name))
        return hub.download(name, sorted(wanted), None)
    return hub.cached(name)


def chosen(parts: Sequence[Part], listing: Mapping[str, int]) -> dict[str, int]:
    """The files of a hub repository that the parts need, with their sizes in bytes: of each part one form alone.

    Args:
        parts: all of one home.
        listing: every file of the repository and its size.
    """
    wanted: dict[str, int] = {}
    for part in parts:
        folder = f"{part.folder}/" if part.folder else ""
        name = next((name for name in part.names if folder + name in listing), None)
        if name is not None:
            wanted |= {path: listing[path] for path in _with_shards(folder, name, listing)}
        for other in (*part.also, *part.extras):
            if folder + other in listing:
                wanted[folder + other] = listing[folder + other]
    return wanted


def _with_shards(folder: str, name: str, listing: Mapping[str, int]) -> list[str]:
    """That file; of an index, its shards too, by their usual names, as it cannot be read before it is here."""
    if not name.endswith(".index.json"):
        return [folder + name]
    stem, _, form = name.removesuffix(".index.json").rpartition(".")
    shard = re.compile(re.escape(f"{folder}{stem}-") + r"\d+-of-\d+\." + re.escape(form))
    return [folder + name, *(path for path in listing if shard.fullmatch(path))]


class Source(Protocol):
    """What `panelhue weights fetch` needs of a hub."""

    def sizes(self, name: str) -> Mapping[str, int]:
        """Bytes of every file of a repository, by path."""
        ...

    def download(self, name: str, files: Sequence[str], folder: Path | None) -> Path:
        """Fetches those files into a folder (None: the hub's cache), going on where an earlier call stopped."""
        ...


class Hub:
    """The Hugging Face hub, or what HF_ENDPOINT names; its errors become sentences."""

    @property
    def offline(self) -> bool:
        """Whether HF_HUB_OFFLINE is set."""
        from huggingface_hub import is_offline_mode

        return bool(is_offline_mode())

    def sizes(self, name: str) -> Mapping[str, int]:
        """Bytes of every file of a repository, by path.

        Raises:
            Unavailable: HUB_OFFLINE, HUB_UNREACHABLE or HUB_REFUSED.
        """
        from huggingface_hub import HfApi

        self._require_online(name)
        info = _asked(name, lambda: HfApi().repo_info(name, files_metadata=True))
        return {file.rfilename: int(file.size or 0) for file in info.siblings or ()}

    def download(self, name: str, files: Sequence[str], folder: Path | None) -> Path:
        """Fetches those files, with progress on standard error; what is there already stays.

        Raises:
            Unavailable: as `sizes`; what has come so far is kept, and the next call goes on from there.
        """
        from huggingface_hub import snapshot_download

        self._require_online(name)
        fetched = _asked(name, lambda: snapshot_download(name, allow_patterns=list(files), local_dir=folder))
        return Path(str(fetched))

    def cached(self, name: str) -> Path:
        """The repository's snapshot in the local cache; asks nobody.

        Raises:
            NotFound: MODEL_NOT_CACHED.
        """
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            return Path(str(snapshot_download(name, local_files_only=True)))
        except (LocalEntryNotFoundError, OSError) as error:
            offline = " while HF_HUB_OFFLINE is set" if self.offline else ""
            raise NotFound(
                f"{name} is no folder and not in the local hub cache, and nothing is downloaded here{offline}; give a "
                "folder, or fetch it with `panelhue weights fetch`",
                reason="MODEL_NOT_CACHED",
            ) from error

    def _require_online(self, name: str) -> None:
        if self.offline:
            raise Unavailable(
                f"{name} cannot be fetched while HF_HUB_OFFLINE is set; unset it, or give a local folder",
                reason="HUB_OFFLINE",
            )


def _asked(name: str, call: Callable[[], Any]) -> Any:
    """What the call gives; every way in which a hub fails becomes a sentence."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    try:
        return call()
    except HFValidationError as error:
        raise InvalidInput(f'a hub name is "owner/name", got {name!r}') from error
    except GatedRepoError as error:
        raise Unavailable(
            f"the hub wants its terms for {name} accepted by a logged-in user; do that on its page, then log in "
            "with `hf auth login`",
            reason="HUB_REFUSED",
        ) from error
    except RepositoryNotFoundError as error:
        raise Unavailable(f"the hub has no repository {name}, or hides it", reason="HUB_REFUSED") from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "no status")
        raise Unavailable(f"the hub refused {name}: {status}", reason="HUB_REFUSED") from error
    except Exception as error:  # its HTTP library has errors of its own, which change with its versions
        raise Unavailable(
            f"{name} could not be fetched: {_first_line(error)}; check the network, or give a local folder. What has "
            "come so far is kept",
            reason="HUB_UNREACHABLE",
        ) from error


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no text'}"


@dataclass(frozen=True)
class Sums:
    """Sha256 of files, remembered by path, size and time of change in one JSON file of a folder of ours."""

    folder: Path | None = None  # None: nothing is remembered

    def of(self, path: Path) -> str:
        """Sha256 of a file in hex. Cost: one read of the file, unless it is remembered."""
        stat = path.stat()
        key, mark = str(path.resolve()), [stat.st_size, stat.st_mtime_ns]
        known = self._read()
        if (entry := known.get(key)) and entry[:2] == mark:
            return str(entry[2])
        value = sha256(path)
        self._write(known | {key: [*mark, value]})
        return value

    def _read(self) -> dict[str, list[Any]]:
        if self.folder is None:
            return {}
        try:
            known = json.loads((self.folder / "sha256.json").read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        good = isinstance(known, dict) and all(isinstance(v, list) and len(v) == 3 for v in known.values())
        return known if good else {}

    def _write(self, known: Mapping[str, object]) -> None:
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.folder, suffix=".part")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(known, file, indent=1)
        Path(name).replace(self.folder / "sha256.json")


def sha256(path: Path) -> str:
    """Sha256 of a file in hex; reads 4 MiB at a time."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            total.update(block)
    return total.hexdigest()


def sums_of(homes: Homes, styles: Iterable[str], cache: Path | None, *, text: bool = False) -> dict[str, str]:
    """Sha256 of the weights that those styles load, by path within the model folder or base model.

    Args:
        homes: where the parts lie; those that are not there are left out.
        styles: names from STYLES.
        cache: folder of ours in which sums are remembered by path, size and time of change; None: nowhere.
        text: with the text encoders.

    Cost: one read of every file that is not remembered.
    """
    known = Sums(cache)
    parts = [part for part in parts_of(styles, text=text) if part.kind != "plain"]
    return {
        "/".join(filter(None, ("" if part.home == "model" else part.home, part.folder, path.name))): known.of(path)
        for part in parts
        for path in homes.find(part).weights
    }
