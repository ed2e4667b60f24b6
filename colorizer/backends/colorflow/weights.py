"""Networks from a model folder: every key of every part is checked before a single number is read or moved.

A network is first built on the meta device, which takes no memory, and its keys and shapes are compared with what the
files' headers say. Only when all parts fit is anything loaded: built again without initialisation, its tensors taken
from the file, cast and moved one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from colorizer.backends.colorflow import lora, sources, states
from colorizer.backends.colorflow.files import SETTINGS_FILE, Found, Home, Homes, Part, part_named, parts_of
from colorizer.backends.colorflow.guider_pixart import resolve_alias
from colorizer.backends.colorflow.keys import Difference, Shapes, compare, named
from colorizer.backends.colorflow.networks import BACKBONES, build, misfit, read_json, shapes_of, uninitialised
from colorizer.backends.colorflow.styles import STYLES, Backbone, Style
from serving.errors import FailedState, ServiceError

Adapter = Literal["merged", "beside", "none"]

_SUFFIXES: Mapping[Backbone, tuple[str, ...]] = {"sd": lora.UNET_SUFFIXES, "pixart": lora.TRANSFORMER_SUFFIXES}


@dataclass(frozen=True)
class Report:
    """What a look at one part's files gave; nothing was loaded."""

    found: Found
    difference: Difference = field(default_factory=Difference)
    problems: tuple[str, ...] = ()  # sentences: missing or unreadable files, a configuration that does not fit
    dtypes: tuple[str, ...] = ()  # of the file's floating-point tensors
    parameters: int = 0  # numbers in the file
    checked: bool = False  # whether keys were compared; not done for tokenizers and for files that are not used

    @property
    def part(self) -> Part:
        """The part."""
        return self.found.part

    @property
    def ok(self) -> bool:
        """Whether it can be loaded."""
        return not self.problems and not self.difference

    def sentences(self, shown: int | None = None) -> tuple[str, ...]:
        """Everything that is wrong with it; long lists shortened to `shown` names."""
        return (*self.problems, *self.difference.sentences(shown))


class Folder:
    """A model folder with its base models: looked at, checked and loaded.

    Args:
        homes: as `sources.homes` gives them; `Folder.open` asks it.
    """

    def __init__(self, homes: Homes) -> None:
        self.homes = homes
        self._needed: dict[str, Shapes] = {}  # by part; a folder's configurations are read once

    @classmethod
    def open(
        cls,
        model: str | Path,
        *,
        bases: Mapping[Home, str] | None = None,
        styles: Iterable[str] = tuple(STYLES),
        text: bool = True,
        download: bool = False,
    ) -> Folder:
        """The folder, and the base models of those styles; see `sources.homes` for the rules and errors."""
        parts = parts_of(styles, text=text)
        return cls(sources.homes(model, bases=bases, parts=parts, download=download))

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Sizes of networks without a configuration file: none but in a reduced model made for tests.

        Raises:
            FailedState: the file is there and is no JSON object of numbers.
        """
        path = self.homes.model / SETTINGS_FILE
        sizes = read_json(path) if path.is_file() else {}
        if not all(isinstance(value, int) and value > 0 for value in sizes.values()):
            raise FailedState(f"{path} must hold positive whole numbers by name, got {sizes}", reason="CONFIG_WRONG")
        return sizes

    def check(self, styles: Iterable[str], *, text: bool = True, unused: bool = False) -> tuple[Report, ...]:
        """A report on each part that the styles need. Cost: a second or two; reads headers, no numbers."""
        return tuple(self.report(part) for part in parts_of(styles, text=text, unused=unused))

    def require(self, styles: Iterable[str], *, text: bool = True) -> tuple[Report, ...]:
        """The reports, when all parts fit.

        Raises:
            FailedState: WEIGHTS_INVALID, with everything that is wrong with any part in one message.
        """
        reports = self.check(styles, text=text)
        wrong = [report for report in reports if not report.ok]
        if wrong:
            lines = [f"- {', '.join(names)}: {sentence}" for sentence, names in grouped(wrong, 6).items()]
            raise FailedState(
                f"{len(wrong)} of {len(reports)} parts of the model in {self.homes.model} cannot be used; "
                "`panelhue weights check` lists every key:\n" + "\n".join(lines),
                reason="WEIGHTS_INVALID",
                metadata={"parts": ",".join(report.part.name for report in wrong)},
            )
        return reports

    def report(self, part: Part) -> Report:
        """What is right and wrong with one part's files."""
        found = self.homes.find(part)
        if found.missing:
            return Report(found, problems=found.missing)
        try:
            if part.kind == "plain":
                for path in found.files:
                    if path.suffix == ".json":
                        read_json(path)
                return Report(found)
            entries = states.entries(found.weights)
            kinds = sorted({one.dtype for one in entries.values() if "float" in one.dtype})
            count = sum(torch.Size(one.shape).numel() for one in entries.values())
            report = partial(Report, found, dtypes=tuple(kinds), parameters=count)
            if part.kind in ("other", "clip_vision"):
                return report()
            shapes = {key: one.shape for key, one in entries.items()}
            difference = compare(self.needed(part), _given(part.kind, shapes))
            return report(difference=difference, problems=misfit(part, self.homes), checked=True)
        except ServiceError as error:
            return Report(found, problems=(error.message,))

    def needed(self, part: Part) -> Shapes:
        """Keys and shapes that a part's network has, by its configuration; kept from the first call.

        Raises:
            FailedState, InvalidInput: the configuration is missing or asks for something else.
        """
        if part.name not in self._needed:
            self._needed[part.name] = self._shapes(part)
        return self._needed[part.name]

    def _shapes(self, part: Part) -> Shapes:
        if part.kind == "lora":
            style = _style_of(part)
            with torch.device("meta"):
                network = self._built(part_named(BACKBONES[style.backbone]))
            rank = self.sizes.get("lora_rank", style.rank)
            return lora.expected_keys(network, _SUFFIXES[style.backbone], rank)
        with torch.device("meta"):
            network = self._built(part)
        return shapes_of(network)

    def network(self, part: Part, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> nn.Module:
        """One part's network, loaded, frozen and in eval mode. The files may change or go away afterwards.

        Args:
            part: one with a network of its own, which a LoRA has not.
            device: where it goes, tensor by tensor.
            dtype: of its floating-point tensors; None keeps the file's.

        Raises:
            FailedState: the part does not fit.

        Cost: one read of the file; on the CPU at most the network itself, on the way to a device one tensor.
        """
        report = self.report(part)
        if not report.ok:
            raise FailedState(
                f"{part.name} cannot be loaded: {'; '.join(report.sentences(6))}", reason="WEIGHTS_INVALID"
            )
        with uninitialised():
            network = self._built(part)
        ready = {name: _moved(tensor, device, dtype) for name, tensor in _read(report.found)}
        network.load_state_dict(ready, strict=True, assign=True)
        nn.Module.to(network, device=device, dtype=dtype)  # buffers that no file has; its own `to` warns without reason
        return network.eval().requires_grad_(requires_grad=False)

    def backbone(
        self,
        style: Style,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        adapter: Adapter = "merged",
    ) -> nn.Module:
        """The style's UNet or transformer with its LoRA.

        Args:
            style: one of STYLES.
            device: where it goes.
            dtype: of its weights; a merge is computed in float32 and rounded once.
            adapter: merged into the weights, beside them (peft), or left out.

        Raises:
            FailedState: base or LoRA does not fit.
        """
        part = part_named(BACKBONES[style.backbone])
        if adapter == "none":
            return self.network(part, device=device, dtype=dtype)
        own = part_named(f"{style.name}/lora")
        report = self.report(own)
        if not report.ok:
            raise FailedState(
                f"{own.name} cannot be loaded: {'; '.join(report.sentences(6))}", reason="WEIGHTS_INVALID"
            )
        tensors = lora.read(report.found.weights[0])
        rank = self.sizes.get("lora_rank", style.rank)  # alpha is the same: scale 1
        if adapter == "beside":
            network = self.network(part, device=device, dtype=dtype)
            lora.inject(network, tensors, rank, rank)
            return network
        network = self.network(part, dtype=torch.float32 if dtype == torch.float32 else None)
        lora.merge(network, tensors, rank)
        nn.Module.to(network, device=device, dtype=dtype)
        return network

    def _built(self, part: Part) -> nn.Module:
        return build(part, self.homes, self.sizes)

    def schedule(self, backbone: Backbone) -> Mapping[str, Any]:
        """The base model's scheduler_config.json."""
        found = self.homes.find(part_named(f"{backbone}/scheduler"))
        if found.missing:
            raise FailedState("; ".join(found.missing), reason="WEIGHTS_INVALID")
        return read_json(found.weights[0])


def grouped(reports: Iterable[Report], shown: int | None) -> dict[str, list[str]]:
    """Every sentence of the reports, once, with the names of the parts that it is said of."""
    result: dict[str, list[str]] = {}
    for report in reports:
        for sentence in report.sentences(shown):
            result.setdefault(sentence, []).append(report.part.name)
    return result


def _read(found: Found) -> Iterator[tuple[str, Tensor]]:
    """A part's tensors one by one, under the network's names."""
    if found.part.kind == "guider_pixart":
        yield from resolve_alias(states.tensors(found.weights)).items()
        return
    for key, tensor in states.stream(found.weights):
        yield from ((name, tensor) for name in named(found.part.kind, [key]))


def _moved(tensor: Tensor, device: torch.device | str, dtype: torch.dtype | None) -> Tensor:
    """A copy of its own, so that the file behind it may go away."""
    return tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None, copy=True)


def _given(kind: str, shapes: Shapes) -> Shapes:
    """A file's shapes under the names that the network has for them."""
    if kind == "lora":
        empty = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
        return {name: tuple(tensor.shape) for name, tensor in lora.normalised(empty).items()}
    return {name: shapes[key] for name, key in named(kind, shapes).items()}


def _style_of(part: Part) -> Style:
    assert part.style is not None, f"{part.name} belongs to one style"
    return part.style
