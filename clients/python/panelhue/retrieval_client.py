"""A client of the retrieval server."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType

import grpc

from panelhue import types as t
from panelhue._channel import UNARY_SECONDS, Sender, channel_options, stream, translated
from panelhue._messages import (
    decode_add_result,
    decode_hit,
    decode_reference,
    decode_retrieval_info,
    decode_series,
    decode_stats,
    encode_bound,
    encode_swatch,
    number,
)
from panelhue._streams import ContextReceiver, Pictures, chunks_of, reference_messages
from panelhue.common.v1 import common_pb2 as common
from panelhue.errors import BookError, Disagreement, UsageError
from panelhue.retrieval.v1 import retrieval_pb2 as pb
from panelhue.retrieval.v1 import retrieval_pb2_grpc as pb_grpc

SERVICE = "panelhue.retrieval.v1.RetrievalService"
IDEMPOTENT = (
    "CreateSeries",  # by its request_id
    "GetSeries",
    "ListSeries",
    "ListReferences",
    "GetReference",
    "DownloadReference",
    "SearchVectors",
    "GetSeriesStats",
    "GetServerInfo",
)
PAGE_SIZE = 500


class RetrievalClient:
    """The pools of a retrieval server. A context manager; safe to use from several threads.

    Every method raises a `PanelhueError` whose class follows the server's status.

    Args:
        target: address, such as "127.0.0.1:50051".
        timeout: deadline of each call that moves no pictures, seconds.
        credentials: for an encrypted channel; None: plain text.
    """

    def __init__(
        self, target: str, *, timeout: float = UNARY_SECONDS, credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        self.target = target
        self._timeout = timeout
        options = channel_options(SERVICE, IDEMPOTENT)
        self._channel = (
            grpc.secure_channel(target, credentials, options)
            if credentials is not None
            else grpc.insecure_channel(target, options)
        )
        self._stub = pb_grpc.RetrievalServiceStub(self._channel)  # type: ignore[no-untyped-call]  # generated

    def __enter__(self) -> RetrievalClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the channel and every call on it."""
        self._channel.close()

    def create_series(
        self,
        series: str = "",
        *,
        display_name: str = "",
        embedder: str = "",
        palette: Sequence[t.Swatch] = (),
        labels: Mapping[str, str] | None = None,
        request_id: str | None = None,
    ) -> t.Series:
        """A new, empty series.

        Args:
            series: its id; empty: made by the server from `display_name`.
            display_name: for people; empty: the id.
            embedder: name of the embedder; empty: the server's default.
            palette: named colours, at most 256.
            labels: for the caller's own use.
            request_id: the same one again answers as the first time; None: a fresh one, so that only a retry of this
                very call is recognised.

        Raises:
            AlreadyExists: the id is taken.
        """
        request = pb.CreateSeriesRequest(
            series=pb.Series(
                id=series,
                display_name=display_name,
                embedder=embedder,
                palette=[encode_swatch(one) for one in palette],
                labels=dict(labels or {}),
            ),
            request_id=uuid.uuid4().hex if request_id is None else request_id,
        )
        with translated(self.target):
            return decode_series(self._stub.CreateSeries(request, timeout=self._timeout).series)

    def get_series(self, series: str) -> t.Series:
        """One series, by id."""
        with translated(self.target):
            return decode_series(
                self._stub.GetSeries(pb.GetSeriesRequest(series_id=series), timeout=self._timeout).series
            )

    def list_series(self) -> Iterator[t.Series]:
        """All series, by id, fetched as they are read."""
        token = ""
        while True:
            with translated(self.target):
                answer = self._stub.ListSeries(
                    pb.ListSeriesRequest(page_size=PAGE_SIZE, page_token=token), timeout=self._timeout
                )
            yield from (decode_series(one) for one in answer.series)
            if not (token := answer.next_page_token):
                return

    def update_series(
        self,
        series: str,
        *,
        display_name: str | None = None,
        palette: Sequence[t.Swatch] | None = None,
        labels: Mapping[str, str] | None = None,
        etag: str = "",
    ) -> t.Series:
        """The series after the change; None leaves a field as it is.

        Raises:
            Conflict: `etag` is given and no longer the series' own.
        """
        given = {"display_name": display_name, "palette": palette, "labels": labels}
        request = pb.UpdateSeriesRequest(
            series=pb.Series(
                id=series,
                display_name=display_name or "",
                palette=[encode_swatch(one) for one in palette or ()],
                labels=dict(labels or {}),
                etag=etag,
            )
        )
        request.update_mask.paths.extend(name for name, value in given.items() if value is not None)
        if not request.update_mask.paths:
            raise UsageError("update_series needs at least one of display_name, palette and labels")
        with translated(self.target):
            return decode_series(self._stub.UpdateSeries(request, timeout=self._timeout).series)

    def delete_series(self, series: str, *, force: bool = False, etag: str = "") -> int:
        """How many references went with the series.

        Args:
            series: its id.
            force: needed where the pool holds references.
            etag: if given, must be the current one.
        """
        request = pb.DeleteSeriesRequest(series_id=series, force=force, etag=etag)
        with translated(self.target):
            return int(self._stub.DeleteSeries(request, timeout=self._timeout).references_deleted)

    def add_references(
        self, series: str, files: Iterable[t.ReferenceFile], *, timeout: float | None = None, request_id: str = ""
    ) -> Iterator[t.AddResult]:
        """What became of each picture, in the order of answers.

        Pictures are read when it is their turn and let go once they are sent, so memory does not grow with their
        number. One that cannot be read is rejected with the reason FILE_UNREADABLE and the rest goes on. Stopping early
        cancels what is not yet acknowledged.

        Args:
            series: id of the series.
            files: may be a generator; it is run in another thread.
            timeout: deadline of the whole stream, seconds; None: none.
            request_id: for the server's log.
        """
        names: dict[str, str] = {}

        def requests(sender: Sender[pb.AddReferencesRequest, t.AddResult]) -> Iterator[pb.AddReferencesRequest]:
            yield pb.AddReferencesRequest(options=pb.AddReferencesOptions(series_id=series, request_id=request_id))
            for place, file in enumerate(files):
                try:
                    data = t.read_source(file.data)
                except (OSError, BookError) as error:
                    sender.local.append(_unreadable(file.name, error))
                    continue
                names[str(place)] = file.name
                yield from reference_messages(str(place), file, data)

        sender: Sender[pb.AddReferencesRequest, t.AddResult] = Sender(requests)
        answers: Iterator[pb.AddReferencesResponse] = stream(self._stub.AddReferences, sender, self.target, timeout)
        for answer in answers:
            while sender.local:
                yield sender.local.popleft()
            if answer.key not in names:
                raise Disagreement(f"the server answered for picture {answer.key!r}, which it was not sent")
            yield decode_add_result(answer, names.pop(answer.key))
        yield from sender.local
        if names:
            raise Disagreement(f"the server ended the stream without an answer for {next(iter(names.values()))!r}")

    def list_references(self, series: str, *, bound: t.Bound | None = None) -> Iterator[t.Reference]:
        """The references of a pool that pass the bound, by id, fetched as they are read."""
        token = ""
        while True:
            request = pb.ListReferencesRequest(
                series_id=series, bound=encode_bound(bound or t.Bound()), page_size=PAGE_SIZE, page_token=token
            )
            with translated(self.target):
                answer = self._stub.ListReferences(request, timeout=self._timeout)
            yield from (decode_reference(one) for one in answer.references)
            if not (token := answer.next_page_token):
                return

    def get_reference(self, series: str, reference_id: str) -> t.Reference:
        """One reference without its pixels."""
        request = pb.GetReferenceRequest(series_id=series, reference_id=reference_id)
        with translated(self.target):
            return decode_reference(self._stub.GetReference(request, timeout=self._timeout).reference)

    def download(self, series: str, reference_id: str, *, timeout: float | None = 120.0) -> t.Picture:
        """A reference's picture, byte for byte as it was added."""
        request = pb.DownloadReferenceRequest(series_id=series, reference_id=reference_id)
        pictures, whole = Pictures(), None
        with translated(self.target):
            for answer in self._stub.DownloadReference(request, timeout=timeout):
                if answer.WhichOneof("message") == "picture":
                    pictures.begin(answer.picture)
                else:
                    whole = pictures.add(answer.chunk) or whole
        pictures.close()
        if whole is None:
            raise Disagreement(f"the server ended the download of {reference_id} without a picture")
        return whole

    def update_reference(
        self,
        series: str,
        reference_id: str,
        *,
        mask: Iterable[str],
        chapter: int | None = None,
        page: int | None = None,
        tags: Sequence[str] = (),
    ) -> t.Reference:
        """The reference after the change.

        Args:
            series: id of the series.
            reference_id: 64 hexadecimal digits.
            mask: which of "chapter", "page" and "tags" change; one that is named here and not given is cleared.
            chapter: thousandths.
            page: number in the chapter.
            tags: at most 32.
        """
        request = pb.UpdateReferenceRequest(
            series_id=series, reference=pb.Reference(id=reference_id, chapter=chapter, page=page, tags=tags)
        )
        request.update_mask.paths.extend(mask)
        with translated(self.target):
            return decode_reference(self._stub.UpdateReference(request, timeout=self._timeout).reference)

    def delete_references(self, series: str, reference_ids: Iterable[str], *, allow_missing: bool = False) -> int:
        """How many references were removed; per thousand ids all or none."""
        ids = iter(reference_ids)
        deleted = 0
        while batch := list(itertools.islice(ids, 1000)):
            request = pb.DeleteReferencesRequest(series_id=series, reference_ids=batch, allow_missing=allow_missing)
            with translated(self.target):
                deleted += self._stub.DeleteReferences(request, timeout=self._timeout).deleted
        return deleted

    def retrieve_context(
        self,
        series: str,
        page: bytes | None = None,
        *,
        reference_id: str = "",
        hits_per_corner: int = 0,
        bound: t.Bound | None = None,
        pixels: t.Pixels = t.Pixels.PATCHES,
        max_patch_side: int = 0,
        min_generation: int = 0,
        request_id: str = "",
        timeout: float | None = 120.0,
    ) -> t.Context:
        """The context of a page.

        Args:
            series: id of the series.
            page: an encoded picture; or else give `reference_id`.
            reference_id: a stored reference to search by; it does not find itself.
            hits_per_corner: 1 to 64; 0 means 3.
            bound: who may answer; None: all.
            pixels: what comes with the hits.
            max_patch_side: patches with a longer side are shrunk to it, pixels; 0: not shrunk.
            min_generation: the pool must have reached it.
            request_id: for the server's log.
            timeout: seconds.
        """
        if (page is None) == (not reference_id):
            raise UsageError("retrieve_context takes either a page or a reference_id")
        options = pb.RetrieveContextOptions(
            series_id=series,
            hits_per_corner=hits_per_corner,
            bound=encode_bound(bound or t.Bound()),
            pixels=number(pixels),
            max_patch_side=max_patch_side,
            min_generation=min_generation,
            request_id=request_id,
        )
        if page is None:
            options.reference_id = reference_id
        else:
            options.page.CopyFrom(common.PictureHeader(key="page", byte_size=len(page)))

        def requests(_: Sender[pb.RetrieveContextRequest, None]) -> Iterator[pb.RetrieveContextRequest]:
            yield pb.RetrieveContextRequest(options=options)
            for chunk in chunks_of("page", page) if page is not None else ():
                yield pb.RetrieveContextRequest(chunk=chunk)

        receiver = ContextReceiver()
        answers: Iterator[pb.RetrieveContextResponse] = stream(
            self._stub.RetrieveContext, Sender(requests), self.target, timeout
        )
        for answer in answers:
            receiver.feed(answer)
        return receiver.finish()

    def search(
        self,
        series: str,
        vectors: bytes,
        dim: int,
        *,
        k: int = 0,
        bound: t.Bound | None = None,
        embedding_space_id: str = "",
        min_generation: int = 0,
    ) -> tuple[t.Hit, ...]:
        """The nearest stored patches of raw vectors, by query, then rank.

        Args:
            series: id of the series.
            vectors: 1 to 256 of them one after the other, little-endian float32: `array.astype("<f4").tobytes()`.
            dim: length of one.
            k: hits per vector, 1 to 1000; 0 means 10.
            bound: who may answer; None: all.
            embedding_space_id: where the vectors were made; empty: not checked.
            min_generation: the pool must have reached it.
        """
        request = pb.SearchVectorsRequest(
            series_id=series,
            dim=dim,
            vectors=vectors,
            k=k,
            bound=encode_bound(bound or t.Bound()),
            embedding_space_id=embedding_space_id,
            min_generation=min_generation,
        )
        with translated(self.target):
            return tuple(decode_hit(one) for one in self._stub.SearchVectors(request, timeout=self._timeout).hits)

    def stats(self, series: str) -> t.SeriesStats:
        """Counts and sizes of one series."""
        with translated(self.target):
            return decode_stats(
                self._stub.GetSeriesStats(pb.GetSeriesStatsRequest(series_id=series), timeout=self._timeout)
            )

    def info(self) -> t.RetrievalInfo:
        """Versions, embedders and limits of the server."""
        with translated(self.target):
            return decode_retrieval_info(self._stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=self._timeout))


def _unreadable(name: str, error: Exception) -> t.AddResult:
    failure = t.Failure(reason="FILE_UNREADABLE", message=str(error))
    return t.AddResult(name=name, status=t.AddStatus.REJECTED, failure=failure)
