"""The contract of a back-end, its card, and the registry that lists back-ends without loading them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Literal, Protocol, runtime_checkable

from colorizer.types import Job, Result
from serving.errors import FailedState, NotFound

GROUP = "panelhue.colorizers"  # entry points that name a BackendSpec each
INPUTS = ("references", "hints", "palette", "seed", "steps", "preview")

Determinism = Literal["none", "tolerance", "exact"]


@runtime_checkable
class Backend(Protocol):
    """Colourises pages; knows nothing of gRPC, queues, files or retrieval.

    What is promised, and held by `colorizer.conformance`: results come in the order of the jobs and have the page's
    size; inputs are never written to; a context without hits is allowed; `job.progress(done, steps)` is called at least
    once, never goes back and ends at `steps`; what it raises passes through at once and leaves the back-end usable.
    """

    def colorize(self, jobs: Sequence[Job]) -> Iterator[Result]:
        """One result for each job, in order, each as soon as it is ready."""
        ...

    def close(self) -> None:
        """Frees what it holds; may be called twice."""
        ...


@dataclass(frozen=True)
class Card:
    """What a back-end wants, what it costs, and under which licence; as the contract's message Backend."""

    name: str
    version: str
    description: str
    inputs: tuple[str, ...] = ()  # of INPUTS: what it makes use of
    min_side: int = 16  # pixels, smallest side of a page
    max_pixels: int = 100_000_000  # of a page
    hits_per_corner: int = 3  # wanted; 0: it uses no references
    memory_bytes: int = 0  # at its largest page, an estimate
    device: Literal["cpu", "cuda"] = "cpu"
    determinism: Determinism = "none"
    code_licence: str = ""  # SPDX id
    weights_licence: str = ""  # SPDX id or name; "" when there are none
    weights_sha256: Mapping[str, str] = field(default_factory=dict)  # by file name
    default_steps: int = 0  # 0: it has no steps to choose
    keeps_luma: bool = False  # PIL's convert("L") of its result equals the page's
    batch: int = 1  # pages that are worth computing together; 1: one at a time; not on the wire
    parameters: Mapping[str, str] = field(default_factory=dict)  # name to description


Settings = Mapping[str, str]  # what the server is told for one back-end; texts


def _nothing_missing(settings: Settings) -> str:  # noqa: ARG001
    return ""


def _as_it_is(card: Card, settings: Settings) -> Card:  # noqa: ARG001
    return card


def _no_weights(settings: Settings) -> Mapping[str, str]:  # noqa: ARG001
    return {}


@dataclass(frozen=True)
class BackendSpec:
    """A back-end before it is loaded. The module that defines it must be cheap to import."""

    card: Card
    load: Callable[[Settings], Backend]  # given {"device": "cpu", …} and the server's settings for it
    check: Callable[[Settings], str] = _nothing_missing  # what is missing here, as a sentence; loads nothing
    own_process: bool = False  # native or GPU code: the server runs it in a process of its own unless told otherwise
    describe: Callable[[Card, Settings], Card] = _as_it_is  # the card under these settings; cheap
    sums: Callable[[Settings], Mapping[str, str]] = _no_weights  # sha256 of its weights by file; may read them all


@dataclass(frozen=True)
class Listing:
    """A card, and whether the back-end can be used now."""

    card: Card
    missing: str = ""  # a sentence; "" when available


def _broken(name: str, why: str, version: str = "") -> BackendSpec:
    """Stands in for a back-end whose spec cannot be had, so that it is listed with the reason."""
    sentence = f"back-end {name!r} cannot be used: {why}"

    def load(settings: Settings) -> Backend:  # noqa: ARG001 - the signature of BackendSpec.load
        raise FailedState(sentence, reason="BACKEND_UNAVAILABLE")

    return BackendSpec(Card(name, version, "Its spec could not be read."), load, lambda _: sentence)


def _spec_of(found: object, name: str, version: str = "") -> BackendSpec:
    if not isinstance(found, BackendSpec):
        return _broken(name, f"its entry point must name a BackendSpec, got {type(found).__name__}", version)
    if found.card.name != name:
        return _broken(name, f"its card must be named {name!r}, got {found.card.name!r}", version)
    return found


def _from_entry_point(point: EntryPoint) -> BackendSpec:
    version = point.dist.version if point.dist else ""
    try:
        found = point.load()
    except (Exception, SystemExit) as error:
        return _broken(point.name, f"{point.value} fails at import with {type(error).__name__}: {error}", version)
    return _spec_of(found, point.name, version)


def _from_path(path: str) -> BackendSpec:
    """The spec at `path`, "module:ATTRIBUTE"."""
    module, _, attribute = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:
        return _broken(path, f"it fails at import with {type(error).__name__}: {error}")
    return _spec_of(found, found.card.name if isinstance(found, BackendSpec) else path)


class Registry:
    """The back-ends of a server, by name.

    Args:
        specs: of one name the first counts.
        settings: what the server is told for each, by name.
    """

    def __init__(self, specs: Iterable[BackendSpec], settings: Mapping[str, Settings] | None = None) -> None:
        self._settings = settings or {}
        self._specs: dict[str, BackendSpec] = {}
        self._sums: dict[str, Mapping[str, str]] = {}
        for spec in specs:
            self._specs.setdefault(spec.card.name, self._described(spec))

    def _described(self, spec: BackendSpec) -> BackendSpec:
        given = self._settings.get(spec.card.name, {})
        try:
            card = spec.describe(spec.card, given)
        except Exception as error:  # a third party's code must not take the server down
            return _broken(spec.card.name, f"it cannot describe itself: {type(error).__name__}: {error}")
        return spec if card is spec.card else replace(spec, card=card)

    @property
    def names(self) -> tuple[str, ...]:
        """All names in order."""
        return tuple(sorted(self._specs))

    def spec(self, name: str) -> BackendSpec:
        """The spec of that name.

        Raises:
            NotFound: BACKEND_NOT_FOUND.
        """
        if name not in self._specs:
            known = ", ".join(self.names) or "none"
            raise NotFound(
                f"no back-end {name!r}; there is {known}", reason="BACKEND_NOT_FOUND", metadata={"backend": name}
            )
        return self._specs[name]

    def listing(self, name: str) -> Listing:
        """The card of that name, and what the back-end lacks here.

        Cost: the first time, the sha256 of its weights.

        Raises:
            NotFound: BACKEND_NOT_FOUND.
        """
        missing, card = self.missing(name), self.spec(name).card
        if missing:
            return Listing(card, missing)
        if name not in self._sums:
            try:
                self._sums[name] = self.spec(name).sums(self._settings.get(name, {}))
            except Exception as error:
                return Listing(card, f"back-end {name!r} cannot be used: {type(error).__name__}: {error}")
        sums = self._sums[name]
        return Listing(replace(card, weights_sha256=sums) if sums else card)

    def missing(self, name: str) -> str:
        """What the back-end lacks here, as a sentence; "": nothing.

        Raises:
            NotFound: BACKEND_NOT_FOUND.
        """
        try:
            return self.spec(name).check(self._settings.get(name, {}))
        except NotFound:
            raise
        except Exception as error:  # a third party's code must not take the list down
            return f"back-end {name!r} cannot be used: its check fails with {type(error).__name__}: {error}"

    def listings(self) -> tuple[Listing, ...]:
        """All cards by name."""
        return tuple(self.listing(name) for name in self.names)


def discover(
    extra: Sequence[str] = (),
    allowed: Sequence[str] | None = None,
    settings: Mapping[str, Settings] | None = None,
) -> Registry:
    """The back-ends that are installed here; their specs are imported, the back-ends are not.

    Args:
        extra: further specs as "module:ATTRIBUTE"; they come first.
        allowed: names to keep; None: all.
        settings: what the server is told for each, by name.
    """
    specs = [_from_path(path) for path in extra]
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    specs += [_from_entry_point(point) for point in points if allowed is None or point.name in allowed]
    return Registry((spec for spec in specs if allowed is None or spec.card.name in allowed), settings)
