"""A page's task as the messages of a ColorizePages stream to another server, and that server's answers back.

Bytes stay bytes: the page and its context pictures go on as they came, and the finished picture comes back likewise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from colorizer.backend import Card, Determinism, Listing
from colorizer.codec import MAX_PALETTE
from colorizer.peek import picture_size
from colorizer.statuses import error_of
from colorizer.tasks import ColourPages, FoundHit, Luma, PageOutcome, PageTask, Preview, Stepped
from panelhue.colorizer.v1 import colorizer_pb2 as pb
from panelhue.common.v1 import common_pb2 as common
from serving.chunks import PictureAssembler, split_picture
from serving.errors import InvalidInput, ServiceError
from serving.geometry import Box

_MAX_PREVIEW_BYTES = 16 << 20
_COLOUR_PAGES: dict[ColourPages, pb.ColorizeOptions.ColourPages] = {
    "keep": pb.ColorizeOptions.COLOUR_PAGES_KEEP,
    "recolour": pb.ColorizeOptions.COLOUR_PAGES_RECOLOUR,
    "reject": pb.ColorizeOptions.COLOUR_PAGES_REJECT,
}
_LUMA: dict[Luma, pb.ColorizeOptions.Luma] = {
    "keep": pb.ColorizeOptions.LUMA_KEEP,
    "backend": pb.ColorizeOptions.LUMA_BACKEND,
}
_DETERMINISM: dict[int, Determinism] = {
    pb.Backend.DETERMINISM_TOLERANCE: "tolerance",
    pb.Backend.DETERMINISM_EXACT: "exact",
}


def options_of(task: PageTask) -> pb.ColorizeOptions:
    """The options of a stream for this one page, one to one; the context was fetched already, so without a series."""
    options = task.options
    message = pb.ColorizeOptions(
        backend=task.backend,
        output_media_type=options.media_type,
        jpeg_quality=options.jpeg_quality,
        chroma_only=options.chroma_only,
        colour_pages=_COLOUR_PAGES[options.colour_pages],
        luma=_LUMA[options.luma],
        seed=task.seed,
        steps=options.steps or 0,
        preview_every=options.preview_every,
        preview_side=options.preview_side,
        palette=_palette(task),
        parameters=options.parameters,
        request_id=options.request_id,
    )
    if options.page_timeout is not None:
        message.page_timeout.FromNanoseconds(max(1, round(options.page_timeout * 1e9)))
    return message


def _palette(task: PageTask) -> list[common.Swatch]:
    """The request's own colours come first, and the contract has an end.

    It has each name once, too; a series that an earlier version made may have two of one name.
    """
    first: dict[str, common.Swatch] = {}
    for swatch in task.palette:
        first.setdefault(swatch.name, common.Swatch(name=swatch.name, rgb=pack_rgb(swatch.rgb)))
    return list(first.values())[:MAX_PALETTE]


def page_key(task: PageTask) -> str:
    """A key that none of its pictures has."""
    key = "page"
    while key in task.pictures:
        key += "'"
    return key


def page_requests(task: PageTask, key: str) -> Iterator[pb.ColorizePagesRequest]:
    """The messages of the page, options not among them."""
    request = pb.ColorizePagesRequest
    hints = [pb.Hint(x=hint.x, y=hint.y, radius=hint.radius, rgb=pack_rgb(hint.rgb)) for hint in task.hints]
    header = common.PictureHeader(key=key, byte_size=len(task.data))
    yield request(page=pb.PageHeader(picture=header, hints=hints, seed=task.seed))
    yield from (request(chunk=chunk) for chunk in split_picture(key, task.data))
    if task.hits:
        yield request(context=pb.PageContext(page_key=key, hits=[encode_hit(hit) for hit in task.hits]))
        for name in dict.fromkeys(hit.picture for hit in task.hits):
            data = task.pictures[name]
            yield request(context_picture=common.PictureHeader(key=name, byte_size=len(data)))
            yield from (request(chunk=chunk) for chunk in split_picture(name, data))
    yield request(end=pb.PageEnd(page_key=key))


def encode_hit(hit: FoundHit) -> common.Hit:
    """The hit, as far as a back-end is told of it."""
    width, height = hit.reference_size or (0, 0)
    origin = common.ORIGIN_GENERATED if hit.depth else common.ORIGIN_OFFICIAL
    return common.Hit(
        corner=hit.corner + 1,  # type: ignore[arg-type]  # the enum's numbers
        rank=hit.rank,
        score=hit.score,
        reference_id=hit.reference_id,
        box=_box(hit.box) if hit.reference_size else None,
        reference_width=width,
        reference_height=height,
        chapter=hit.chapter or None,
        provenance=common.Provenance(origin=origin, depth=hit.depth),
        picture_key=hit.picture,
        picture_box=_box(hit.picture_box),
    )


def _box(box: Box | None) -> common.Box | None:
    return None if box is None else common.Box(x0=box.x0, y0=box.y0, x1=box.x1, y1=box.y1)


def pack_rgb(rgb: tuple[int, int, int]) -> int:
    """0xRRGGBB of red, green and blue, each [0, 255]."""
    return rgb[0] << 16 | rgb[1] << 8 | rgb[2]


def decode_card(message: pb.Backend, name: str) -> Listing:
    """Another server's card, under the name that the back-end has here."""
    card = Card(
        name=name,
        version=message.version,
        description=message.description,
        inputs=tuple(message.inputs),
        min_side=max(1, message.min_side),
        max_pixels=message.max_pixels or Card.max_pixels,
        hits_per_corner=message.hits_per_corner,
        memory_bytes=message.memory_bytes,
        device="cuda" if message.device == "cuda" else "cpu",
        determinism=_DETERMINISM.get(message.determinism, "none"),
        code_licence=message.code_licence,
        weights_licence=message.weights_licence,
        weights_sha256=dict(message.weights_sha256),
        default_steps=message.default_steps,
        keeps_luma=message.keeps_luma,
        parameters=dict(message.parameters),
    )
    missing = (
        "" if message.available else message.unavailable_reason or f"back-end {name!r} says that it is unavailable"
    )
    return Listing(card, missing)


class Answer:
    """Reads the answers to one page, and holds the sender to the contract.

    Args:
        task: the page that was sent.
        key: the page's.
        max_bytes: largest picture taken.
    """

    def __init__(self, task: PageTask, key: str, max_bytes: int = 1 << 30) -> None:
        self.outcome: PageOutcome | None = None
        self.position: int | None = None  # as last told
        self._task = task
        self._key = key
        self._pictures = PictureAssembler(max_bytes)
        self._previews = PictureAssembler(_MAX_PREVIEW_BYTES)
        self._header: common.PictureHeader | None = None
        self._preview: common.PictureHeader | None = None
        self._data: bytes | None = None

    def take(self, message: pb.ColorizePagesResponse) -> Stepped | Preview | None:
        """What this message tells of, if it is for the caller; the result is in `outcome` after the last one.

        Raises:
            ServiceError: the page's own failure; or BACKEND_FAILED, the message breaks the contract.
        """
        try:
            return self._take(message)
        except InvalidInput as error:
            if error.reason in ("BAD_CHUNK", "SIZE_MISMATCH") and message.WhichOneof("message") != "error":
                raise self._broken(error.message) from error
            raise

    def _take(self, message: pb.ColorizePagesResponse) -> Stepped | Preview | None:
        kind = message.WhichOneof("message")
        body = getattr(message, kind) if kind else None
        key = getattr(body, "page_key", None) or getattr(body, "key", None)
        if body is None or key != self._key or self.outcome is not None:
            raise self._broken(f"a message {kind or 'without content'} for page {key!r} out of order")
        match kind:
            case "accepted":
                self.position = body.queue_position
            case "queued":
                self.position = body.position
            case "progress":
                return Stepped(min(body.step, max(1, body.steps)), max(1, body.steps))
            case "preview":
                self._previews.begin(body)
                self._preview = body
            case "picture":
                self._pictures.begin(body)
                self._header = body
            case "chunk":
                return self._chunk(body)
            case "result":
                self.outcome = self._finished(body)
            case "error":
                raise error_of(body.failure)
        return None

    def _chunk(self, chunk: common.PictureChunk) -> Preview | None:
        if self._header is not None:
            data = self._pictures.add(chunk)
            self._data = data if data is not None else self._data
            return None
        data = self._previews.add(chunk)
        if data is None or self._preview is None:
            return None
        header, self._preview = self._preview, None
        return Preview(data, header.media_type, header.width, header.height)

    def _finished(self, result: pb.PageResult) -> PageOutcome:
        header, data = self._header, self._data
        if header is None or data is None:
            raise self._broken("a result before the whole picture")
        if header.media_type != self._task.options.media_type:
            raise self._broken(f"a picture of {self._task.options.media_type} was asked for, got {header.media_type!r}")
        digest = hashlib.sha256(data).hexdigest()
        if result.sha256 != digest:
            raise self._broken(f"the result's sha256 must be its picture's {digest}, got {result.sha256!r}")
        self._check_size(data)
        timing = result.timing
        return PageOutcome(
            data=data,
            media_type=header.media_type,
            width=header.width,
            height=header.height,
            sha256=digest,
            already_colour=result.already_colour,
            used=self._used(result),
            confidence=result.confidence if result.HasField("confidence") else None,
            decode_ns=timing.decode_ns,
            compute_ns=timing.compute_ns,
            encode_ns=timing.encode_ns,
            notes=tuple(result.notes),
        )

    def _check_size(self, data: bytes) -> None:
        wanted, got = picture_size(self._task.data), picture_size(data)
        if (0, 0) not in (wanted, got) and wanted != got:
            raise self._broken(f"the page has {wanted[0]} x {wanted[1]} pixels, the result {got[0]} x {got[1]}")

    def _used(self, result: pb.PageResult) -> tuple[bool, ...]:
        """Which of the task's hits gave colour; one that is not named gave none."""
        told = {(r.corner - 1, r.rank, r.reference_id): r.used or not r.HasField("used") for r in result.references}
        return tuple(told.get((hit.corner, hit.rank, hit.reference_id), False) for hit in self._task.hits)

    def _broken(self, what: str) -> ServiceError:
        message = f"back-end {self._task.backend!r} breaks the contract: {what}"
        return ServiceError(message, reason="BACKEND_FAILED", metadata={"cause": "CONTRACT"})
