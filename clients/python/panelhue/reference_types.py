"""What the client says of the references in a pool, and of what is to become one.

Frozen dataclasses that mirror the contract; `panelhue.types` has them too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING

from panelhue.common_types import Box, Failure, Provenance, Source, Timing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Pixels(Enum):
    """Which pixels come with the hits of a context."""

    NONE = 1
    PATCHES = 2
    REFERENCES = 3


class AddStatus(Enum):
    """What became of a picture that was to be added."""

    ADDED = 1
    ALREADY_PRESENT = 2
    REJECTED = 3


@dataclass(frozen=True)
class Reference:
    """One colour picture in a pool."""

    id: str  # SHA-256 of its bytes
    chapter: int | None
    page: int | None
    tags: tuple[str, ...]
    provenance: Provenance
    width: int
    height: int
    media_type: str
    byte_size: int
    generation: int
    create_time: datetime
    near_duplicate_of: str = ""  # the reference that this one nearly repeats; empty: none is known


@dataclass(frozen=True)
class ReferenceFile:
    """A picture to add to a pool."""

    name: str  # names it in its result; not stored
    data: Source
    chapter: int | None = None  # thousandths
    page: int | None = None
    tags: tuple[str, ...] = ()
    provenance: Provenance = Provenance()


@dataclass(frozen=True)
class ImportedReference:
    """A picture whose vectors are made already."""

    name: str  # names it in its result; not stored
    data: Source  # the file as it is to be stored; it is not decoded
    vectors: NDArray[np.floating] = field(repr=False, compare=False)  # 1 to 64 rows; of any length but zero
    boxes: tuple[Box, ...]  # where each row's patch lies in the picture
    width: int  # pixels, orientation applied
    height: int
    media_type: str = ""  # empty: found out from the bytes
    chapter: int | None = None  # thousandths
    page: int | None = None
    tags: tuple[str, ...] = ()
    provenance: Provenance = Provenance()


@dataclass(frozen=True)
class AddResult:
    """What became of one picture."""

    name: str  # the ReferenceFile's or ImportedReference's
    status: AddStatus
    reference: Reference | None = None  # None if rejected
    failure: Failure | None = None  # set if rejected
    generation: int = 0
    timing: Timing = Timing()
    notes: tuple[str, ...] = ()  # what was left out or guessed when it was decoded, a sentence each
