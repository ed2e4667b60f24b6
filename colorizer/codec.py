"""Messages to plain dataclasses and back; checks that a message is well formed, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from colorizer import tasks
from colorizer.backend import Listing
from colorizer.tasks import FoundHit, Options, SeriesQuery
from colorizer.types import Hint, Swatch
from panelhue.colorizer.v1 import colorizer_pb2 as pb
from panelhue.common.v1 import common_pb2 as common
from serving.chunks import split_picture
from serving.errors import InvalidInput
from serving.fields import Fields
from serving.geometry import Box
from serving.status import failure_of

MEDIA_TYPES = ("image/png", "image/jpeg", "image/webp")
MAX_HITS, MAX_HINTS, MAX_PALETTE = 256, 1024, 256
SERIES_ID = r"[a-z0-9][a-z0-9._-]{0,63}"
_DETERMINISM = {
    "none": pb.Backend.DETERMINISM_NONE,
    "tolerance": pb.Backend.DETERMINISM_TOLERANCE,
    "exact": pb.Backend.DETERMINISM_EXACT,
}
_COLOUR_PAGES: dict[int, tasks.ColourPages] = {
    pb.ColorizeOptions.COLOUR_PAGES_UNSPECIFIED: "keep",
    pb.ColorizeOptions.COLOUR_PAGES_KEEP: "keep",
    pb.ColorizeOptions.COLOUR_PAGES_RECOLOUR: "recolour",
    pb.ColorizeOptions.COLOUR_PAGES_REJECT: "reject",
}
_LUMA: dict[int, tasks.Luma] = {
    pb.ColorizeOptions.LUMA_UNSPECIFIED: "keep",
    pb.ColorizeOptions.LUMA_KEEP: "keep",
    pb.ColorizeOptions.LUMA_BACKEND: "backend",
}


def encode_backend(listing: Listing) -> pb.Backend:
    """The card as a message."""
    card = listing.card
    return pb.Backend(
        name=card.name,
        version=card.version,
        description=card.description,
        inputs=card.inputs,
        min_side=card.min_side,
        max_pixels=card.max_pixels,
        hits_per_corner=card.hits_per_corner,
        memory_bytes=card.memory_bytes,
        device=card.device,
        determinism=_DETERMINISM[card.determinism],
        code_licence=card.code_licence,
        weights_licence=card.weights_licence,
        weights_sha256=dict(card.weights_sha256),
        default_steps=card.default_steps,
        keeps_luma=card.keeps_luma,
        parameters=dict(card.parameters),
        available=not listing.missing,
        unavailable_reason=listing.missing,
    )


def decode_options(message: pb.ColorizeOptions) -> Options:
    """The options of a stream, defaults filled in.

    Raises:
        InvalidInput: with a violation for every wrong field.
    """
    fields = Fields()
    media_type = message.output_media_type or "image/png"
    fields.require(
        media_type in MEDIA_TYPES,
        "options.output_media_type",
        f"must be one of {', '.join(MEDIA_TYPES)}, got {media_type!r}",
    )
    fields.require(
        not message.chroma_only or media_type == "image/png",
        "options.chroma_only",
        f"needs output_media_type image/png, got {media_type!r}",
    )
    fields.require(
        message.colour_pages in _COLOUR_PAGES, "options.colour_pages", f"must be 0 to 3, got {message.colour_pages}"
    )
    fields.require(message.luma in _LUMA, "options.luma", f"must be 0 to 2, got {message.luma}")
    options = Options(
        backend=fields.text(message.backend, "options.backend", max_bytes=256),
        series=_decode_series(fields, message.series) if message.HasField("series") else None,
        media_type=media_type,
        jpeg_quality=fields.count(message.jpeg_quality, "options.jpeg_quality", default=92, minimum=1, maximum=100),
        chroma_only=message.chroma_only,
        colour_pages=_COLOUR_PAGES.get(message.colour_pages, "keep"),
        luma=_LUMA.get(message.luma, "keep"),
        seed=message.seed,
        steps=fields.count(message.steps, "options.steps", default=0, minimum=1, maximum=1000) or None,
        preview_every=fields.count(message.preview_every, "options.preview_every", default=0, minimum=1, maximum=1000),
        preview_side=fields.count(message.preview_side, "options.preview_side", default=512, minimum=64, maximum=2048),
        palette=_decode_palette(fields, message.palette),
        page_timeout=_decode_timeout(fields, message),
        parameters=_decode_parameters(fields, message),
        request_id=fields.text(message.request_id, "options.request_id", max_bytes=128),
    )
    fields.done()
    return options


def _decode_series(fields: Fields, message: pb.SeriesContext) -> SeriesQuery:
    name = "options.series"
    fields.matches(
        message.series_id,
        f"{name}.series_id",
        pattern=SERIES_ID,
        says="1 to 64 of a-z, 0-9, '-', '_' and '.', beginning with a letter or digit",
    )
    return SeriesQuery(
        series_id=message.series_id,
        bound=message.bound.SerializeToString(),
        hits_per_corner=fields.count(
            message.hits_per_corner, f"{name}.hits_per_corner", default=0, minimum=1, maximum=64
        ),
        min_generation=message.min_generation,
    )


def _decode_palette(fields: Fields, swatches: Sequence[common.Swatch]) -> tuple[Swatch, ...]:
    fields.at_most(swatches, "options.palette", MAX_PALETTE)
    names: dict[str, int] = {}
    for index, swatch in enumerate(swatches[:MAX_PALETTE]):
        name = f"options.palette[{index}]"
        fields.text(swatch.name, f"{name}.name", max_bytes=256, required=True)
        fields.require(swatch.rgb <= 0xFFFFFF, f"{name}.rgb", f"must be at most 0xFFFFFF, got {swatch.rgb:#x}")
        first = names.setdefault(swatch.name, index)
        fields.require(first == index, f"{name}.name", f"must be another than that of entry {first}, got it again")
    return tuple(Swatch(swatch.name, unpack_rgb(swatch.rgb)) for swatch in swatches[:MAX_PALETTE])


def _decode_timeout(fields: Fields, message: pb.ColorizeOptions) -> float | None:
    if not message.HasField("page_timeout"):
        return None
    seconds = message.page_timeout.seconds + message.page_timeout.nanos / 1e9
    fields.require(seconds > 0, "options.page_timeout", f"must be more than 0 s, got {seconds:g} s")
    return seconds


def _decode_parameters(fields: Fields, message: pb.ColorizeOptions) -> dict[str, str]:
    fields.at_most(list(message.parameters), "options.parameters", 64)
    for name, value in list(message.parameters.items())[:64]:
        fields.text(value, f"options.parameters[{name[:64]!r}]", max_bytes=1024)
    return dict(message.parameters)


def unpack_rgb(rgb: int) -> tuple[int, int, int]:
    """Red, green and blue of 0xRRGGBB, each [0, 255]."""
    return rgb >> 16 & 255, rgb >> 8 & 255, rgb & 255


def decode_hints(hints: Sequence[pb.Hint]) -> tuple[Hint, ...]:
    """The hints of a page. Whether they lie within it is found out once it is decoded.

    Raises:
        InvalidInput: INVALID_HINT.
    """
    if len(hints) > MAX_HINTS:
        raise _invalid_hint(f"a page must have at most {MAX_HINTS} hints, got {len(hints)}")
    for index, hint in enumerate(hints):
        if not (math.isfinite(hint.x) and math.isfinite(hint.y) and math.isfinite(hint.radius) and hint.radius >= 0):
            place = f"x {hint.x:g}, y {hint.y:g}, radius {hint.radius:g}"
            raise _invalid_hint(f"hint {index} must have finite numbers and no negative radius, got {place}")
        if hint.rgb > 0xFFFFFF:
            raise _invalid_hint(f"hint {index}'s rgb must be at most 0xFFFFFF, got {hint.rgb:#x}")
    return tuple(Hint(hint.x, hint.y, hint.radius or 4.0, unpack_rgb(hint.rgb)) for hint in hints)


def _invalid_hint(message: str) -> InvalidInput:
    return InvalidInput(message, reason="INVALID_HINT")


def decode_hit(hit: common.Hit) -> FoundHit:
    """One hit of a context.

    Raises:
        InvalidInput: INVALID_CONTEXT, with expected and actual.
    """
    if hit.corner not in (1, 2, 3, 4):
        raise _invalid_hit(f"a hit's corner must be one of the four of a page, got {hit.corner}")
    if not math.isfinite(hit.score):
        raise _invalid_hit(f"a hit's score must be a number in [-1, 1], got {hit.score}")
    if not 1 <= len(hit.reference_id.encode()) <= 256:
        raise _invalid_hit("a hit's reference_id must have 1 to 256 bytes")
    if not hit.picture_key:
        raise _invalid_hit("a hit's picture_key must name a context picture, got none")
    box = _decode_box(hit.box, "box") if hit.HasField("box") else None
    size = (hit.reference_width, hit.reference_height)
    if (box is None) != (0 in size):
        raise _invalid_hit(f"a hit's box and its reference's size must be set both or neither, got {box} and {size}")
    generated = hit.provenance.origin == common.ORIGIN_GENERATED
    bare = common.Hit()
    bare.CopyFrom(hit)
    bare.ClearField("picture_key")
    bare.ClearField("picture_box")
    return FoundHit(
        corner=hit.corner - 1,
        rank=hit.rank,
        score=hit.score,
        reference_id=hit.reference_id,
        picture=hit.picture_key,
        picture_box=_decode_box(hit.picture_box, "picture_box") if hit.HasField("picture_box") else None,
        box=box,
        reference_size=None if box is None else size,
        depth=max(hit.provenance.depth, 1) if generated else hit.provenance.depth,
        chapter=hit.chapter,
        echo=bare.SerializeToString(),
    )


def in_order(hits: Iterable[FoundHit]) -> tuple[FoundHit, ...]:
    """The hits by corner, then rank."""
    return tuple(sorted(hits, key=lambda hit: (hit.corner, hit.rank)))


def _decode_box(box: common.Box, name: str) -> Box:
    if not (box.x0 < box.x1 and box.y0 < box.y1):
        raise _invalid_hit(f"a hit's {name} must have x0 < x1 and y0 < y1, got {(box.x0, box.y0, box.x1, box.y1)}")
    return Box(box.x0, box.y0, box.x1, box.y1)


def _invalid_hit(message: str) -> InvalidInput:
    return InvalidInput(message, reason="INVALID_CONTEXT")


def encode_event(event: tasks.Event) -> Iterator[pb.ColorizePagesResponse]:
    """The messages that tell of an event, in order."""
    response = pb.ColorizePagesResponse
    match event:
        case tasks.Accepted(key, width, height, position):
            yield response(accepted=pb.PageAccepted(page_key=key, width=width, height=height, queue_position=position))
        case tasks.Queued(key, position):
            yield response(queued=pb.PageQueued(page_key=key, position=position))
        case tasks.Progressed(key, step, steps):
            yield response(progress=pb.PageProgress(page_key=key, step=step, steps=steps))
        case tasks.Previewed(key, preview):
            yield response(preview=_header(key, preview))
            yield from (response(chunk=chunk) for chunk in split_picture(key, preview.data))
        case tasks.Finished(key, outcome=outcome):
            yield response(picture=_header(key, outcome))
            yield from (response(chunk=chunk) for chunk in split_picture(key, outcome.data))
            yield response(result=encode_result(event))
        case tasks.Failed(key, error):
            yield response(error=pb.PageError(page_key=key, failure=failure_of(error)))


def _header(key: str, picture: tasks.Preview | tasks.PageOutcome) -> common.PictureHeader:
    return common.PictureHeader(
        key=key,
        media_type=picture.media_type,
        byte_size=len(picture.data),
        width=picture.width,
        height=picture.height,
    )


def encode_result(event: tasks.Finished) -> pb.PageResult:
    """The last message of a finished page."""
    outcome, context = event.outcome, event.context
    references = []
    for hit, used in zip(context.hits, outcome.used, strict=True):
        reference = common.Hit.FromString(hit.echo)
        reference.used = used
        references.append(reference)
    return pb.PageResult(
        page_key=event.key,
        backend=event.backend,
        backend_version=event.backend_version,
        seed=event.seed,
        references=references,
        generation=context.generation,
        timing=common.Timing(
            queue_ns=event.queue_ns,
            decode_ns=outcome.decode_ns,
            embed_ns=context.embed_ns,
            search_ns=context.search_ns,
            compute_ns=outcome.compute_ns,
            encode_ns=outcome.encode_ns,
            total_ns=event.total_ns,
        ),
        already_colour=outcome.already_colour,
        sha256=outcome.sha256,
        weights_licence=event.weights_licence,
        depth=event.depth,
        confidence=outcome.confidence,
        notes=outcome.notes,
    )
