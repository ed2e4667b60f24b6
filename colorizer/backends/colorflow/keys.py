"""State-dict keys: what a file has against what a network needs, and the names that published files spell otherwise.

Pure comparison of names and shapes; `states` reads them from files, `weights` gets them from networks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

SHOWN = 6  # names of a list that an error message shows

_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD = re.compile(r"(.*\battentions\.\d+)\.(query|key|value|proj_attn)\.(weight|bias)")
_NOT_LEARNT = re.compile(r"(?:.*\.)?embeddings\.position_ids")


@dataclass(frozen=True)
class Difference:
    """How a file's keys differ from a network's."""

    missing: tuple[str, ...] = ()  # the network needs them
    extra: tuple[str, ...] = ()  # it has no place for them
    misshaped: tuple[str, ...] = ()  # sentences: name, needed shape, shape in the file

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.misshaped)

    def sentences(self, shown: int | None = SHOWN) -> tuple[str, ...]:
        """One for each kind of difference there is.

        Args:
            shown: names listed of each kind; longer lists are shortened in the middle. None: all of them.
        """
        kinds = (("missing", self.missing), ("not known", self.extra), ("of another shape", self.misshaped))
        return tuple(f"{len(names)} {kind}: {listed(names, shown)}" for kind, names in kinds if names)


def compare(needed: Shapes, found: Shapes) -> Difference:
    """The difference between a network's keys and a file's, in the order of each."""
    wrong = (name for name in needed if name in found and tuple(found[name]) != tuple(needed[name]))
    return Difference(
        tuple(name for name in needed if name not in found),
        tuple(name for name in found if name not in needed),
        tuple(f"{name} must be {shape_text(needed[name])}, got {shape_text(found[name])}" for name in wrong),
    )


def shape_text(shape: Sequence[int]) -> str:
    """A shape as KEYS and messages write it: 320x4x3x3, or scalar."""
    return "x".join(map(str, shape)) if shape else "scalar"


def listed(names: Sequence[str], shown: int | None = SHOWN) -> str:
    """Names in one line, shortened in the middle where there are more than `shown`; that number is at least 2."""
    if shown is None or len(names) <= shown:
        return ", ".join(names)
    tail = shown // 2
    head = shown - tail
    return ", ".join((*names[:head], f"… {len(names) - shown} more …", *names[-tail:]))


def named(kind: str, keys: Iterable[str]) -> dict[str, str]:
    """The network's name for each key of a file, with that key: aliases are dropped, old spellings replaced.

    Args:
        kind: of the part, as `files.Part.kind`.
        keys: of the file. Those that no rule knows keep their names, for `compare` to find.
    """
    have = list(keys)
    if kind == "guider_pixart":
        return _without_alias(have)
    if kind == "vae":
        return {_modern(key): key for key in have}
    if kind == "clip_text":
        return {key.removeprefix("text_model."): key for key in have if not _NOT_LEARNT.fullmatch(key)}
    if kind == "t5":
        return _tied(have, "shared.weight", "encoder.embed_tokens.weight")
    return {key: key for key in have}


def _modern(key: str) -> str:
    """The present name of a VAE's attention weights, which the public files carry under their old names."""
    found = _OLD.fullmatch(key)
    return f"{found[1]}.{_OLD_ATTENTION[found[2]]}.{found[3]}" if found else key


def _without_alias(keys: Sequence[str]) -> dict[str, str]:
    """`after_proj` is the last tap under a second name; a file may lack either one."""
    result = {key: key for key in keys if not key.startswith("after_proj.")}
    blocks = [int(key.split(".")[1]) for key in keys if re.match(r"transformer_blocks\.\d+\.", key)]
    for key in keys:
        if key.startswith("after_proj.") and blocks:
            result.setdefault(f"adapter_linear.{max(blocks)}.{key.removeprefix('after_proj.')}", key)
    return result


def _tied(keys: Sequence[str], first: str, second: str) -> dict[str, str]:
    """Two names of one tensor, of which a file may lack either."""
    result = {key: key for key in keys}
    for name, other in ((first, second), (second, first)):
        if other in result:
            result.setdefault(name, other)
    return result
