"""Pages put together from the messages of a ColorizePages stream."""

from __future__ import annotations

from dataclasses import replace

from colorizer.codec import MAX_HITS, decode_hints, decode_hit, in_order
from colorizer.tasks import Context, PageRequest
from panelhue.colorizer.v1 import colorizer_pb2 as pb
from panelhue.common.v1 import common_pb2 as common
from serving.chunks import PictureAssembler
from serving.errors import InvalidInput, ServiceError


class PageAssembler:
    """Takes the messages after the options one by one, and gives each page when its `end` has come.

    What is wrong with one page becomes that page's failure; what breaks the order of messages is raised.

    Args:
        max_bytes: largest picture, bytes.
        max_context_bytes: of all context pictures of a page together.
    """

    def __init__(self, max_bytes: int, max_context_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._max_context_bytes = max_context_bytes
        self._unanswered: set[str] = set()
        self._page: _OpenPage | None = None

    @property
    def open_key(self) -> str | None:
        """Key of the page that is begun and not ended."""
        return self._page.key if self._page else None

    def answered(self, key: str) -> None:
        """The page was answered; its key is free again."""
        self._unanswered.discard(key)

    def add(self, message: pb.ColorizePagesRequest) -> PageRequest | None:
        """The page, if this message ends it.

        Raises:
            InvalidInput: BAD_ORDER or BAD_CHUNK; the stream cannot go on.
        """
        kind = message.WhichOneof("message")
        if kind == "page":
            self._begin(message.page)
            return None
        if kind == "options":
            raise _bad_order("options come once, as the first message")
        if kind is None:
            raise _bad_order("a message must hold one of page, chunk, context, context_picture and end, got none")
        if self._page is None:
            raise _bad_order(f"{kind} must come after the header of its page, got it between pages")
        if kind == "end":
            return self._end(message.end.page_key)
        if kind == "chunk":
            self._page.chunk(message.chunk)
        elif kind == "context":
            self._page.context(message.context)
        else:
            self._page.picture(message.context_picture)
        return None

    def finish(self) -> None:
        """The client has closed its side.

        Raises:
            InvalidInput: BAD_ORDER, in the middle of a page.
        """
        if self._page:
            raise _bad_order(f"the stream ended before page {self._page.key!r} did")

    def _begin(self, header: pb.PageHeader) -> None:
        key = header.picture.key
        if self._page:
            raise _bad_order(f"page {key!r} began before page {self._page.key!r} was ended")
        if key in self._unanswered:
            raise _bad_order(f"page {key!r} is under way already; keys must differ until a page is answered")
        self._page = _OpenPage(header, self._max_bytes, self._max_context_bytes)
        self._unanswered.add(key)

    def _end(self, key: str) -> PageRequest:
        assert self._page
        if key != self._page.key:
            raise _bad_order(f"end must name the open page {self._page.key!r}, got {key!r}")
        page, self._page = self._page, None
        return page.complete()


def _bad_order(message: str) -> InvalidInput:
    return InvalidInput(message, reason="BAD_ORDER")


def _invalid_context(message: str) -> InvalidInput:
    return InvalidInput(message, reason="INVALID_CONTEXT")


class _OpenPage:
    """The page that is coming in."""

    def __init__(self, header: pb.PageHeader, max_bytes: int, max_context_bytes: int) -> None:
        self.key = header.picture.key
        self._header = header
        self._assembler = PictureAssembler(max_bytes)
        self._assembler.begin(header.picture)
        self._data: bytes | None = None
        self._context: pb.PageContext | None = None
        self._pictures: dict[str, bytes] = {}
        self._begun = {self.key}
        self._room = max_context_bytes
        self._failure: ServiceError | None = None

    def _fail(self, error: ServiceError) -> None:
        self._failure = self._failure or error

    def picture(self, header: common.PictureHeader) -> None:
        if self._context is None:
            raise _bad_order(f"context_picture {header.key!r} must come after the context of page {self.key!r}")
        if header.key in self._begun:
            raise InvalidInput(f"picture {header.key!r} was announced before on this page", reason="BAD_CHUNK")
        self._assembler.begin(header)
        self._begun.add(header.key)

    def chunk(self, chunk: common.PictureChunk) -> None:
        try:
            data = self._assembler.add(chunk)
        except InvalidInput as error:
            if "key" not in error.metadata:
                raise
            self._fail(error if chunk.key == self.key else _invalid_context(error.message))
            return
        if chunk.key == self.key:
            self._data = data if data is not None else self._data
            return
        self._room -= len(chunk.data)
        if self._room < 0:
            self._pictures.clear()
            self._fail(
                _invalid_context(
                    f"a page's context pictures have more bytes than this server takes: {-self._room} too many"
                )
            )
        elif data is not None:
            self._pictures[chunk.key] = data

    def context(self, context: pb.PageContext) -> None:
        if self._context is not None:
            raise _bad_order(f"page {self.key!r} has two contexts")
        if context.page_key != self.key:
            raise _bad_order(f"context must name the open page {self.key!r}, got {context.page_key!r}")
        self._context = context

    def complete(self) -> PageRequest:
        page = PageRequest(self.key, b"")
        try:
            if self._failure:
                raise self._failure
            for key in self._assembler.open_keys:
                # The rest of it would have no page to belong to.
                message = (
                    f"picture {key!r} must be complete before page {self.key!r} ends, but its last chunk is missing"
                )
                raise InvalidInput(message, reason="SIZE_MISMATCH" if key == self.key else "INVALID_CONTEXT")
            header = self._header
            return replace(
                page,
                data=self._data or b"",
                hints=decode_hints(header.hints),
                seed=header.seed if header.HasField("seed") else None,
                bound=header.bound.SerializeToString() if header.HasField("bound") else None,
                context=self._own_context(),
            )
        except ServiceError as error:
            return replace(page, failure=error)

    def _own_context(self) -> Context | None:
        if self._context is None:
            return None
        if len(self._context.hits) > MAX_HITS:
            raise _invalid_context(f"a context must have at most {MAX_HITS} hits, got {len(self._context.hits)}")
        hits = tuple(decode_hit(hit) for hit in self._context.hits)
        for hit in hits:
            if hit.picture not in self._pictures:
                known = ", ".join(sorted(self._pictures)) or "none"
                raise _invalid_context(
                    f"a hit points to picture {hit.picture!r}, but the page's context pictures are {known}"
                )
        return Context(hits=in_order(hits), pictures=self._pictures, generation=self._context.generation)
