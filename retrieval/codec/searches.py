"""Searches in messages: vectors, texts, options, hits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias, TypeVar

import numpy as np
from jaxtyping import Float32

from panelhue.common.v1 import common_pb2
from panelhue.retrieval.v1 import retrieval_pb2 as pb
from retrieval import types
from retrieval.codec.pages import check_size
from retrieval.codec.parts import decode_bound, encode_box, encode_provenance, encode_timing
from serving.fields import Fields
from serving.geometry import Box

CORNERS_OUT = (
    common_pb2.CORNER_TOP_LEFT,
    common_pb2.CORNER_TOP_RIGHT,
    common_pb2.CORNER_BOTTOM_LEFT,
    common_pb2.CORNER_BOTTOM_RIGHT,
)
PIXELS = {
    pb.RetrieveContextOptions.PIXELS_UNSPECIFIED: "patches",
    pb.RetrieveContextOptions.PIXELS_NONE: "none",
    pb.RetrieveContextOptions.PIXELS_PATCHES: "patches",
    pb.RetrieveContextOptions.PIXELS_REFERENCES: "references",
}
MAX_TEXT_BYTES = 1024
MAX_CHOICE = 1_000_000  # vectors times k squared: 1.3 s where vectors have 512 numbers
KEPT_OWNERS = 2048  # a page finds a dozen; some 2 MB, and 40 MB where each has 256 parents
Asked: TypeAlias = pb.RetrieveContextOptions | pb.SearchVectorsRequest | pb.SearchTextRequest
Answer = TypeVar("Answer", pb.SearchVectorsResponse, pb.SearchTextResponse)


def decode_vectors(f: Fields, request: pb.SearchVectorsRequest) -> Float32[np.ndarray, "q dim"]:
    """The vectors of a search, one per row; a single zero where they are malformed."""
    f.require(1 <= request.dim <= 65536, "dim", f"must be 1 to 65536, got {request.dim}")
    size = 4 * request.dim
    count = len(request.vectors) // size if size else 0
    whole = size > 0 and len(request.vectors) == count * size and 1 <= count <= 256
    says = f"must be 1 to 256 vectors of {size} bytes, got {len(request.vectors)} bytes"
    if not f.require(whole, "vectors", says):
        return np.zeros((1, 1), np.float32)
    return np.frombuffer(request.vectors, "<f4").reshape(count, request.dim).astype(np.float32)


def decode_options(f: Fields, message: Asked, k: int, field: str = "") -> types.SearchOptions:
    """What is asked of a search beside its vectors; `k` is decoded already, and `field` leads the names of fields."""
    diversity = message.diversity
    f.require(0 <= diversity <= 1, f"{field}diversity", f"must be 0 to 1, got {diversity:g}")
    return types.SearchOptions(
        k=k,
        bound=decode_bound(f, message.bound, f"{field}bound"),
        min_generation=message.min_generation,
        as_of=message.as_of_generation,
        per_reference=message.max_hits_per_reference,
        diversity=diversity,
    )


def check_choice(f: Fields, queries: int, options: types.SearchOptions) -> None:
    """Notes it if hits are to be chosen among more candidates than a search may take time for."""
    cost = queries * options.k**2
    plain = not options.diversity and not options.per_reference
    says = f"with diversity or max_hits_per_reference, vectors * k * k must be at most {MAX_CHOICE}, got {cost}"
    f.require(plain or cost <= MAX_CHOICE, "k", says)


def encode_found(found: types.Found, response: Answer) -> Answer:
    """The empty `response` filled with what was found.

    Raises:
        InvalidInput: RESPONSE_TOO_LARGE.

    Cost: 1 µs a hit, and 4 µs for each reference that was not found lately.
    """
    response.generation = found.generation
    response.timing.CopyFrom(encode_timing(found.timing))
    for hit in found.hits:
        _fill(response.hits.add(), hit)
    check_size(response)
    return response


def encode_corner_hits(
    summary: pb.ContextSummary,
    hits: Iterable[types.Hit],
    picture_keys: Iterable[str],
    picture_boxes: Iterable[Box | None],
) -> None:
    """Adds to `summary` a page's hits, whose queries are its corners, and the picture that shows each ("": none)."""
    for hit, picture_key, picture_box in zip(hits, picture_keys, picture_boxes, strict=True):
        message = summary.hits.add()
        _fill(message, hit)
        message.corner = CORNERS_OUT[hit.query]  # the order of serving.geometry.CORNERS
        message.query = 0
        message.picture_key = picture_key
        if picture_key and picture_box is not None:
            message.picture_box.CopyFrom(encode_box(picture_box))


def _fill(message: common_pb2.Hit, hit: types.Hit) -> None:
    message.CopyFrom(OWNERS.of(hit.reference))
    message.query, message.rank = hit.query, hit.rank
    message.score = min(1.0, max(-1.0, hit.score))
    out, box = message.box, hit.box
    out.x0, out.y0, out.x1, out.y1 = box.x0, box.y0, box.x1, box.y1
    out.SetInParent()  # also where every edge is 0


class Owners:
    """What is the same in every hit of a reference; kept, because copying it takes a quarter of the time of making it.

    Pools in memory give the same object for a reference in every search until it is changed.

    Args:
        limit: references that are kept; the first ones go first.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: dict[int, tuple[types.Reference, common_pb2.Hit]] = {}  # by id(), which a kept object holds on to

    def of(self, reference: types.Reference) -> common_pb2.Hit:
        """A hit of the reference without what a search says of it; not to be changed."""
        kept = self._kept.get(id(reference))
        if kept is not None:
            return kept[1]
        if len(self._kept) >= self._limit:
            del self._kept[next(iter(self._kept))]
        message = _encode_owner(reference)
        self._kept[id(reference)] = reference, message
        return message


OWNERS = Owners(KEPT_OWNERS)


def _encode_owner(reference: types.Reference) -> common_pb2.Hit:
    return common_pb2.Hit(
        reference_id=reference.id,
        reference_width=reference.width,
        reference_height=reference.height,
        chapter=reference.chapter,
        page=reference.page,
        provenance=encode_provenance(reference.provenance),
        tags=reference.tags,
    )
