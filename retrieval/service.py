"""gRPC in, engine call, gRPC out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import aclosing
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

from grpc import aio

from panelhue.common.v1 import common_pb2
from panelhue.retrieval.v1 import retrieval_pb2 as pb
from panelhue.retrieval.v1 import retrieval_pb2_grpc as pb_grpc
from retrieval import codec
from retrieval.engine import Engine
from retrieval.gallery import Pixels, plan
from retrieval.importing import Importer
from retrieval.quotas import caller_of
from retrieval.streams import Incoming, ahead, first, import_batches, incoming, page_bytes, rejects
from retrieval.types import Page, Shown, Wanted
from serving.chunks import idle, split_picture
from serving.fields import Fields

NAME = "panelhue.retrieval.v1.RetrievalService"
SHOW_AHEAD = 2  # pictures cut while an earlier one is sent


class RetrievalServicer(pb_grpc.RetrievalServiceServicer):
    """The RPCs of RetrievalService; what they promise stands in the contract.

    Args:
        engine: does the work.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._settings = engine.settings

    async def CreateSeries(  # noqa: N802 - gRPC's name
        self, request: pb.CreateSeriesRequest, _context: aio.ServicerContext
    ) -> pb.CreateSeriesResponse:
        """Makes an empty pool."""
        f = Fields()
        draft = codec.decode_series_draft(f, request.series)
        request_id = codec.decode_request_id(f, request.request_id)
        f.done()
        return pb.CreateSeriesResponse(series=codec.encode_series(await self._engine.create_series(draft, request_id)))

    async def GetSeries(  # noqa: N802 - gRPC's name
        self, request: pb.GetSeriesRequest, _context: aio.ServicerContext
    ) -> pb.GetSeriesResponse:
        """One series."""
        f = Fields()
        series_id = codec.decode_series_id(f, request.series_id)
        f.done()
        return pb.GetSeriesResponse(series=codec.encode_series(await self._engine.get_series(series_id)))

    async def ListSeries(  # noqa: N802 - gRPC's name
        self, request: pb.ListSeriesRequest, _context: aio.ServicerContext
    ) -> pb.ListSeriesResponse:
        """All series, by id."""
        after = codec.decode_token(request.page_token, "series", "")
        views, more = await self._engine.list_series(after, codec.page_size(request.page_size))
        series = [codec.encode_series(view) for view in views]
        count = codec.fitting(series)
        more = more or count < len(series)
        token = codec.encode_token("series", "", series[count - 1].id) if more else ""
        return pb.ListSeriesResponse(series=series[:count], next_page_token=token)

    async def UpdateSeries(  # noqa: N802 - gRPC's name
        self, request: pb.UpdateSeriesRequest, _context: aio.ServicerContext
    ) -> pb.UpdateSeriesResponse:
        """Changes what the mask names."""
        f = Fields()
        series_id = codec.decode_series_id(f, request.series.id, "series.id")
        change = codec.decode_series_change(f, request)
        f.done()
        return pb.UpdateSeriesResponse(series=codec.encode_series(await self._engine.update_series(series_id, change)))

    async def DeleteSeries(  # noqa: N802 - gRPC's name
        self, request: pb.DeleteSeriesRequest, _context: aio.ServicerContext
    ) -> pb.DeleteSeriesResponse:
        """Removes a series with everything in it."""
        f = Fields()
        series_id = codec.decode_series_id(f, request.series_id)
        f.done()
        count = await self._engine.delete_series(series_id, force=request.force, etag=request.etag)
        return pb.DeleteSeriesResponse(references_deleted=count)

    async def AddReferences(  # noqa: N802 - gRPC's name
        self, request_iterator: AsyncIterator[pb.AddReferencesRequest], context: aio.ServicerContext
    ) -> AsyncIterator[pb.AddReferencesResponse]:
        """Adds colour pictures to a pool; the next ones are received and embedded while one is stored."""
        messages = idle(request_iterator, self._settings.idle_seconds)
        options: pb.AddReferencesOptions = await first(messages)
        f = Fields()
        series_id = codec.decode_series_id(f, options.series_id, "options.series_id")
        codec.decode_request_id(f, options.request_id, "options.request_id")
        f.done()
        await self._engine.ready_to_add(series_id)
        caller = caller_of(context.invocation_metadata() or (), context.peer())

        async def work() -> AsyncIterator[Coroutine[Any, Any, pb.AddReferencesResponse]]:
            async for picture in incoming(messages, self._settings.max_picture_bytes):
                yield self._add(series_id, picture, caller)

        async with aclosing(ahead(work(), self._settings.ingest_window)) as responses:
            async for response in responses:
                yield response

    async def _add(self, series_id: str, picture: Incoming, caller: str) -> pb.AddReferencesResponse:
        try:
            if picture.error is not None:
                raise picture.error
            assert picture.draft is not None  # else there is an error
            added = await self._engine.add(series_id, picture.draft, picture.data, caller=caller)
        except Exception as error:
            if not rejects(error):
                raise
            view = await self._engine.get_series(series_id)
            return codec.encode_rejected(picture.key, error, view.pool.generation)
        return codec.encode_added(picture.key, added)

    async def ImportReferences(  # noqa: N802 - gRPC's name
        self, request_iterator: AsyncIterator[pb.ImportReferencesRequest], context: aio.ServicerContext
    ) -> AsyncIterator[pb.ImportReferencesResponse]:
        """Adds references whose vectors the caller already has; a batch is one transaction."""
        messages = idle(request_iterator, self._settings.idle_seconds)
        options: pb.ImportReferencesOptions = await first(messages)
        f = Fields()
        series_id = codec.decode_series_id(f, options.series_id, "options.series_id")
        field = "options.embedding_space_id"
        space_id = f.text(options.embedding_space_id, field, max_bytes=codec.MAX_SPACE_ID_BYTES, required=True)
        codec.decode_request_id(f, options.request_id, "options.request_id")
        f.done()
        importer = Importer(
            self._engine, series_id, space_id, caller_of(context.invocation_metadata() or (), context.peer())
        )
        await importer.check()
        async for batch in import_batches(messages):
            response, fatal = await importer.store(batch)
            yield response
            if fatal is not None:
                raise fatal

    async def ListReferences(  # noqa: N802 - gRPC's name
        self, request: pb.ListReferencesRequest, _context: aio.ServicerContext
    ) -> pb.ListReferencesResponse:
        """The references of a pool, by id."""
        f = Fields()
        series_id = codec.decode_series_id(f, request.series_id)
        bound = codec.decode_bound(f, request.bound)
        f.done()
        scope = pb.ListReferencesRequest(series_id=series_id, bound=request.bound)
        after = codec.decode_token(request.page_token, "references", scope, codec.REFERENCE_ID)
        found, more, generation = await self._engine.list_references(
            series_id, bound, after, codec.page_size(request.page_size)
        )
        references = [codec.encode_reference(reference) for reference in found]
        count = codec.fitting(references)
        more = more or count < len(references)
        token = codec.encode_token("references", scope, references[count - 1].id) if more else ""
        return pb.ListReferencesResponse(references=references[:count], next_page_token=token, generation=generation)

    async def GetReference(  # noqa: N802 - gRPC's name
        self, request: pb.GetReferenceRequest, _context: aio.ServicerContext
    ) -> pb.GetReferenceResponse:
        """One reference without its pixels."""
        series_id, reference_id = which(request)
        found = await self._engine.get_reference(series_id, reference_id)
        return pb.GetReferenceResponse(reference=codec.encode_reference(found))

    async def DownloadReference(  # noqa: N802 - gRPC's name
        self, request: pb.DownloadReferenceRequest, _context: aio.ServicerContext
    ) -> AsyncIterator[pb.DownloadReferenceResponse]:
        """The bytes of a reference as they were added."""
        series_id, reference_id = which(request)
        found, data = await self._engine.download(series_id, reference_id)
        shown = Shown(data, found.media_type, found.width, found.height)
        yield pb.DownloadReferenceResponse(picture=header(reference_id, shown))
        for chunk in split_picture(reference_id, data):
            yield pb.DownloadReferenceResponse(chunk=chunk)

    async def UpdateReference(  # noqa: N802 - gRPC's name
        self, request: pb.UpdateReferenceRequest, _context: aio.ServicerContext
    ) -> pb.UpdateReferenceResponse:
        """Changes chapter, page or tags of a reference."""
        f = Fields()
        series_id = codec.decode_series_id(f, request.series_id)
        reference_id = codec.decode_reference_id(f, request.reference.id, "reference.id")
        change = codec.decode_reference_change(f, request)
        f.done()
        reference, generation = await self._engine.update_reference(series_id, reference_id, change)
        return pb.UpdateReferenceResponse(reference=codec.encode_reference(reference), generation=generation)

    async def DeleteReferences(  # noqa: N802 - gRPC's name
        self, request: pb.DeleteReferencesRequest, _context: aio.ServicerContext
    ) -> pb.DeleteReferencesResponse:
        """Removes references, all of those named or none."""
        f = Fields()
        series_id = codec.decode_series_id(f, request.series_id)
        count = len(request.reference_ids)
        f.require(1 <= count <= 1000, "reference_ids", f"must have 1 to 1000 entries, got {count}")
        for place, reference_id in enumerate(request.reference_ids[:1000]):
            codec.decode_reference_id(f, reference_id, f"reference_ids[{place}]")
        f.done()
        deleted, generation = await self._engine.delete_references(
            series_id, request.reference_ids, allow_missing=request.allow_missing, purge=request.purge
        )
        return pb.DeleteReferencesResponse(deleted=deleted, generation=generation)

    async def RetrieveContext(  # noqa: N802 - gRPC's name
        self, request_iterator: AsyncIterator[pb.RetrieveContextRequest], _context: aio.ServicerContext
    ) -> AsyncIterator[pb.RetrieveContextResponse]:
        """The context of a page: all hits, then the pictures that they point to."""
        messages = idle(request_iterator, self._settings.idle_seconds)
        options: pb.RetrieveContextOptions = await first(messages)
        f = Fields()
        series_id = codec.decode_series_id(f, options.series_id, "options.series_id")
        k = f.count(options.hits_per_corner, "options.hits_per_corner", default=3, minimum=1, maximum=64)
        asked = codec.decode_options(f, options, k, "options.")
        pixels = codec.PIXELS.get(options.pixels)
        f.require(pixels is not None, "options.pixels", f"must be a value of Pixels, got {options.pixels}")
        whole = pixels == "references" and options.max_patch_side > 0
        f.require(not whole, "options.max_patch_side", "must be 0 with PIXELS_REFERENCES")
        codec.decode_request_id(f, options.request_id, "options.request_id")
        query = options.WhichOneof("query")
        f.require(query is not None, "options.query", "must be a page or a reference_id, got neither")
        if query == "reference_id":
            codec.decode_reference_id(f, options.reference_id, "options.reference_id")
        f.done()
        await self._engine.get_series(series_id)  # before the page's bytes are waited for
        if pixels == "patches":
            self._engine.get_ready_to_show()
        page = Page(reference_id=options.reference_id)
        if query == "page":
            page = Page(await page_bytes(messages, options, self._settings.max_picture_bytes))
        answer = await self._engine.retrieve(series_id, page, asked)
        pictures = plan(answer.found.hits, cast(Pixels, pixels))
        summary = pb.ContextSummary(
            generation=answer.found.generation,
            embedding_space=codec.encode_space(answer.space),
            timing=codec.encode_timing(answer.found.timing),
            candidates=answer.found.candidates,
            palette=codec.encode_palette(answer.palette),
            page_width=answer.page_width,
            page_height=answer.page_height,
        )
        codec.encode_corner_hits(summary, answer.found.hits, pictures.keys, pictures.boxes)
        codec.check_size(summary)
        yield pb.RetrieveContextResponse(summary=summary)

        async def work() -> AsyncIterator[Coroutine[Any, Any, tuple[str, Shown]]]:
            for wanted in pictures.wanted:
                yield self._show(series_id, wanted, options.max_patch_side, pictures.wanted)

        async with aclosing(ahead(work(), SHOW_AHEAD)) as shown_pictures:
            async for key, shown in shown_pictures:
                yield pb.RetrieveContextResponse(picture=header(key, shown))
                for chunk in split_picture(key, shown.data):
                    yield pb.RetrieveContextResponse(chunk=chunk)

    async def _show(self, series_id: str, wanted: Wanted, max_side: int, beside: Sequence[Wanted]) -> tuple[str, Shown]:
        return wanted.key, await self._engine.show(series_id, wanted, max_side, beside)

    async def SearchVectors(  # noqa: N802 - gRPC's name
        self, request: pb.SearchVectorsRequest, _context: aio.ServicerContext
    ) -> pb.SearchVectorsResponse:
        """The nearest stored patches of vectors that the caller made itself."""
        f = Fields()
        series_id = codec.decode_series_id(f, request.series_id)
        vectors = codec.decode_vectors(f, request)
        k = f.count(request.k, "k", default=10, minimum=1, maximum=1000)
        options = codec.decode_options(f, request, k)
        codec.check_choice(f, len(vectors), options)
        space_id = f.text(request.embedding_space_id, "embedding_space_id", max_bytes=codec.MAX_SPACE_ID_BYTES)
        f.done()
        found = await self._engine.search(series_id, vectors, options, space_id)
        return codec.encode_found(found, pb.SearchVectorsResponse())

    async def SearchText(  # noqa: N802 - gRPC's name
        self, request: pb.SearchTextRequest, _context: aio.ServicerContext
    ) -> pb.SearchTextResponse:
        """The nearest stored patches of a text."""
        f = Fields()
        series_id = codec.decode_series_id(f, request.series_id)
        text = f.text(request.text, "text", max_bytes=codec.MAX_TEXT_BYTES, required=True)
        k = f.count(request.k, "k", default=10, minimum=1, maximum=1000)
        options = codec.decode_options(f, request, k)
        f.done()
        found = await self._engine.search_text(series_id, text, options)
        return codec.encode_found(found, pb.SearchTextResponse())

    async def GetSeriesStats(  # noqa: N802 - gRPC's name
        self, request: pb.GetSeriesStatsRequest, _context: aio.ServicerContext
    ) -> pb.GetSeriesStatsResponse:
        """Counts and sizes of one series."""
        f = Fields()
        series_id = codec.decode_series_id(f, request.series_id)
        f.done()
        return codec.encode_stats(await self._engine.stats(series_id))

    async def GetServerInfo(  # noqa: N802 - gRPC's name
        self, _request: pb.GetServerInfoRequest, _context: aio.ServicerContext
    ) -> pb.GetServerInfoResponse:
        """Versions, embedders and limits of the server."""
        return pb.GetServerInfoResponse(
            version=panelhue_version(),
            faiss=self._engine.faiss,
            embedders=self._engine.embedders,
            default_embedder=self._settings.embedder,
            max_picture_bytes=self._settings.max_picture_bytes,
            max_picture_pixels=self._settings.max_picture_pixels,
            free_bytes=self._engine.free_bytes,
            read_only=self._engine.read_only,
            index_bytes=self._engine.index_bytes,
            max_index_bytes=self._settings.index_bytes,
            gpu_bytes=self._engine.gpu_bytes,
            max_gpu_bytes=self._settings.gpu_bytes,
        )


def which(request: pb.GetReferenceRequest | pb.DownloadReferenceRequest) -> tuple[str, str]:
    """The series' and the reference's id of a request."""
    f = Fields()
    series_id = codec.decode_series_id(f, request.series_id)
    reference_id = codec.decode_reference_id(f, request.reference_id)
    f.done()
    return series_id, reference_id


def header(key: str, shown: Shown) -> common_pb2.PictureHeader:
    """Announces a picture."""
    return common_pb2.PictureHeader(
        key=key, media_type=shown.media_type, byte_size=len(shown.data), width=shown.width, height=shown.height
    )


def panelhue_version() -> str:
    """Panelhue's version, "0+unknown" where it is not installed."""
    try:
        return version("panelhue")
    except PackageNotFoundError:
        return "0+unknown"
