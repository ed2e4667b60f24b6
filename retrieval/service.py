"""gRPC in, engine call, gRPC out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
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
from retrieval.streams import Incoming, ahead, first, incoming, page_bytes
from retrieval.types import Page, Shown, Wanted
from serving.chunks import idle, split_picture
from serving.errors import FailedState, InvalidInput, NotFound, Overloaded, ServiceError
from serving.fields import Fields
from serving.status import failure_of
from serving.workers import RemoteError

NAME = "panelhue.retrieval.v1.RetrievalService"
STREAM_ENDS = (FailedState, NotFound, Overloaded)  # what no other picture of the stream would survive either
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
        request_id = f.text(request.request_id, "request_id", max_bytes=codec.MAX_REQUEST_ID_BYTES)
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
        views, more = await self._engine.list_series(after, page_size(request.page_size))
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
        self, request_iterator: AsyncIterator[pb.AddReferencesRequest], _context: aio.ServicerContext
    ) -> AsyncIterator[pb.AddReferencesResponse]:
        """Adds colour pictures to a pool; the next ones are received and embedded while one is stored."""
        messages = idle(request_iterator, self._settings.idle_seconds)
        options: pb.AddReferencesOptions = await first(messages)
        f = Fields()
        series_id = codec.decode_series_id(f, options.series_id, "options.series_id")
        f.text(options.request_id, "options.request_id", max_bytes=codec.MAX_REQUEST_ID_BYTES)
        f.done()
        await self._engine.ready_to_add(series_id)

        async def work() -> AsyncIterator[Coroutine[Any, Any, pb.AddReferencesResponse]]:
            async for picture in incoming(messages, self._settings.max_picture_bytes):
                yield self._add(series_id, picture)

        async with aclosing(ahead(work(), self._settings.ingest_window)) as responses:
            async for response in responses:
                yield response

    async def _add(self, series_id: str, picture: Incoming) -> pb.AddReferencesResponse:
        try:
            if picture.error is not None:
                raise picture.error
            assert picture.draft is not None  # else there is an error
            added = await self._engine.add(series_id, picture.draft, picture.data)
        except Exception as error:
            if not rejects(error):
                raise
            view = await self._engine.get_series(series_id)
            return pb.AddReferencesResponse(
                key=picture.key,
                status=pb.AddReferencesResponse.STATUS_REJECTED,
                failure=failure_of(error),
                generation=view.pool.generation,
            )
        statuses = pb.AddReferencesResponse
        return pb.AddReferencesResponse(
            key=picture.key,
            status=statuses.STATUS_ADDED if added.new else statuses.STATUS_ALREADY_PRESENT,
            reference=codec.encode_reference(added.reference),
            generation=added.generation,
            timing=codec.encode_timing(added.timing),
        )

    async def ListReferences(  # noqa: N802 - gRPC's name
        self, request: pb.ListReferencesRequest, _context: aio.ServicerContext
    ) -> pb.ListReferencesResponse:
        """The references of a pool, by id."""
        f = Fields()
        series_id = codec.decode_series_id(f, request.series_id)
        bound = codec.decode_bound(f, request.bound)
        f.done()
        scope = pb.ListReferencesRequest(series_id=series_id, bound=request.bound)
        after = codec.decode_token(request.page_token, "references", scope)
        found, more, generation = await self._engine.list_references(
            series_id, bound, after, page_size(request.page_size)
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
            series_id, request.reference_ids, allow_missing=request.allow_missing
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
        bound = codec.decode_bound(f, options.bound, "options.bound")
        pixels = codec.PIXELS.get(options.pixels)
        f.require(pixels is not None, "options.pixels", f"must be a value of Pixels, got {options.pixels}")
        whole = pixels == "references" and options.max_patch_side > 0
        f.require(not whole, "options.max_patch_side", "must be 0 with PIXELS_REFERENCES")
        f.text(options.request_id, "options.request_id", max_bytes=codec.MAX_REQUEST_ID_BYTES)
        query = options.WhichOneof("query")
        f.require(query is not None, "options.query", "must be a page or a reference_id, got neither")
        if query == "reference_id":
            codec.decode_reference_id(f, options.reference_id, "options.reference_id")
        f.done()
        await self._engine.get_series(series_id)  # before the page's bytes are waited for
        page = Page(reference_id=options.reference_id)
        if query == "page":
            page = Page(await page_bytes(messages, options, self._settings.max_picture_bytes))
        answer = await self._engine.retrieve(series_id, page, k, bound, options.min_generation)
        pictures = plan(answer.found.hits, cast(Pixels, pixels))
        summary = pb.ContextSummary(
            hits=map(codec.encode_corner_hit, answer.found.hits, pictures.keys, pictures.boxes),
            generation=answer.found.generation,
            embedding_space=codec.encode_space(answer.space),
            timing=codec.encode_timing(answer.found.timing),
            candidates=answer.found.candidates,
            palette=codec.encode_palette(answer.palette),
            page_width=answer.page_width,
            page_height=answer.page_height,
        )
        codec.check_size(summary)
        yield pb.RetrieveContextResponse(summary=summary)

        async def work() -> AsyncIterator[Coroutine[Any, Any, tuple[str, Shown]]]:
            for wanted in pictures.wanted:
                yield self._show(series_id, wanted, options.max_patch_side)

        async with aclosing(ahead(work(), SHOW_AHEAD)) as shown_pictures:
            async for key, shown in shown_pictures:
                yield pb.RetrieveContextResponse(picture=header(key, shown))
                for chunk in split_picture(key, shown.data):
                    yield pb.RetrieveContextResponse(chunk=chunk)

    async def _show(self, series_id: str, wanted: Wanted, max_side: int) -> tuple[str, Shown]:
        return wanted.key, await self._engine.show(series_id, wanted, max_side)

    async def SearchVectors(  # noqa: N802 - gRPC's name
        self, request: pb.SearchVectorsRequest, _context: aio.ServicerContext
    ) -> pb.SearchVectorsResponse:
        """The nearest stored patches of vectors that the caller made itself."""
        f = Fields()
        series_id = codec.decode_series_id(f, request.series_id)
        vectors = codec.decode_vectors(f, request)
        k = f.count(request.k, "k", default=10, minimum=1, maximum=1000)
        bound = codec.decode_bound(f, request.bound)
        space_id = f.text(request.embedding_space_id, "embedding_space_id", max_bytes=512)
        f.done()
        found = await self._engine.search(series_id, vectors, k, bound, space_id, request.min_generation)
        response = pb.SearchVectorsResponse(
            hits=map(codec.encode_hit, found.hits),
            generation=found.generation,
            timing=codec.encode_timing(found.timing),
        )
        codec.check_size(response)
        return response

    async def GetSeriesStats(  # noqa: N802 - gRPC's name
        self, request: pb.GetSeriesStatsRequest, _context: aio.ServicerContext
    ) -> pb.GetSeriesStatsResponse:
        """Counts and sizes of one series."""
        f = Fields()
        series_id = codec.decode_series_id(f, request.series_id)
        f.done()
        stats = await self._engine.stats(series_id)
        return pb.GetSeriesStatsResponse(
            references=stats.pool.references,
            patches=stats.pool.patches,
            disk_bytes=stats.disk_bytes,
            index_bytes=stats.index_bytes,
            loaded=stats.loaded,
            generation=stats.pool.generation,
            references_by_chapter=dict(stats.by_chapter),
            references_by_depth=dict(stats.by_depth),
            references_without_chapter=stats.without_chapter,
        )

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
        )


def rejects(error: Exception) -> bool:
    """Whether an error is about one picture, so that the stream goes on."""
    if isinstance(error, ServiceError):
        in_worker = error.metadata.get("stage") == "reference" and not isinstance(error, STREAM_ENDS)
        return in_worker or isinstance(error, InvalidInput) or error.reason == "OUT_OF_MEMORY"
    return isinstance(error, RemoteError)  # a mistake of ours met in a worker, by this picture


def page_size(wanted: int) -> int:
    """Entries of one page of a listing: 100 unless told otherwise, at most 1000."""
    return min(wanted or 100, 1000)


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
