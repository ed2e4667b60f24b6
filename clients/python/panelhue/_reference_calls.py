"""The calls that are about references: what RetrievalClient has of their kind."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from panelhue import types as t
from panelhue._calls import Call, Gathered, Listing, Several, asked, exchanged, listed
from panelhue._exchange import Answer, Exchange, Items
from panelhue._imports import Packer, unreadable
from panelhue._messages import decode_add_result, decode_reference, encode_bound
from panelhue._series_calls import PAGE_SIZE
from panelhue._streams import Pictures, reference_messages
from panelhue.errors import Disagreement
from panelhue.retrieval.v1 import retrieval_pb2 as pb

MOST_DELETED = 1000  # references of one call, as the contract says


class ReferenceCalls:
    """Adds, lists, reads, changes and removes references."""

    @exchanged
    def add_references(
        self, series: str, files: Items[t.ReferenceFile], *, timeout: float | None = None, request_id: str = ""
    ) -> Exchange[t.ReferenceFile, t.AddResult]:
        """What became of each picture, in the order of answers.

        Pictures are read when it is their turn and let go once they are answered, so memory does not grow with their
        number. One that cannot be read is rejected with the reason FILE_UNREADABLE and the rest goes on. Stopping early
        cancels what is not yet acknowledged. Where the stream breaks off and is made again, a picture whose answer was
        lost on the way is ALREADY_PRESENT.

        Args:
            series: id of the series.
            files: may be a generator, which is run in another thread; an asyncio client also takes an async one.
            timeout: deadline of the whole stream with all its attempts, seconds; None: none.
            request_id: for the server's log.

        Raises:
            NotFound: no such series.
            FailedState: the series' embedder cannot be loaded or has changed.
            Overloaded: the disk is full, or a quota is used up.
            ServerError: the whole call failed, over all attempts; pictures without an answer by then have none.
        """
        return _Adding("AddReferences", files, timeout, series=series, request_id=request_id)

    @exchanged
    def import_references(
        self,
        series: str,
        references: Items[t.ImportedReference],
        *,
        embedding_space_id: str,
        timeout: float | None = None,
        request_id: str = "",
    ) -> Exchange[t.ImportedReference, t.AddResult]:
        """What became of each reference whose vectors are made already, in the order of answers.

        References are sent in batches of at most 1000 and some 3 MiB, each of which is stored in one transaction; a
        batch's results come when it is synced to disk. One that cannot be read, or is too large for any batch, is
        rejected with the reason FILE_UNREADABLE or REFERENCE_TOO_LARGE and the rest goes on. Stopping early cancels
        what is not yet acknowledged.

        Args:
            series: id of the series.
            references: may be a generator, which is run in another thread; an asyncio client also takes an async one.
            embedding_space_id: where the vectors were made; must be the series' own, see `Series.embedding_space`.
            timeout: deadline of the whole stream with all its attempts, seconds; None: none.
            request_id: for the server's log.

        Raises:
            NotFound: no such series.
            FailedState: the vectors are of another embedding space.
            Overloaded: the disk is full, or a quota is used up.
            ServerError: the whole call failed, over all attempts; references without an answer by then have none.
        """
        return _Importing(
            "ImportReferences", references, timeout, series=series, space=embedding_space_id, request_id=request_id
        )

    @listed
    def list_references(
        self, series: str, *, bound: t.Bound | None = None, timeout: float | None = None
    ) -> Listing[t.Reference]:
        """The references of a pool that pass the bound, by id, fetched as they are read.

        Args:
            series: id of the series.
            bound: which of them; None: all.
            timeout: of each fetch, seconds; None: the client's.

        Raises:
            NotFound: no such series.
        """

        def page(token: str) -> Call[tuple[Sequence[t.Reference], str]]:
            request = pb.ListReferencesRequest(
                series_id=series, bound=encode_bound(bound or t.Bound()), page_size=PAGE_SIZE, page_token=token
            )
            return Call("ListReferences", request, _reference_page, timeout)

        return Listing(page)

    @asked
    def get_reference(self, series: str, reference_id: str, *, timeout: float | None = None) -> Call[t.Reference]:
        """One reference without its pixels.

        Raises:
            NotFound: no such series or reference.
        """
        request = pb.GetReferenceRequest(series_id=series, reference_id=reference_id)
        return Call("GetReference", request, _only_reference, timeout)

    @asked
    def download(self, series: str, reference_id: str, *, timeout: float | None = 120.0) -> Gathered[t.Picture]:
        """A reference's picture, byte for byte as it was added.

        Args:
            series: id of the series.
            reference_id: 64 hexadecimal digits.
            timeout: of the whole call with all its attempts, seconds; None: none.

        Raises:
            NotFound: no such series or reference.
            CorruptData: the stored bytes are damaged.
        """
        request = pb.DownloadReferenceRequest(series_id=series, reference_id=reference_id)
        return Gathered("DownloadReference", request, lambda: _Download(reference_id), timeout)

    @asked
    def update_reference(
        self,
        series: str,
        reference_id: str,
        *,
        mask: Iterable[str],
        chapter: int | None = None,
        page: int | None = None,
        tags: Sequence[str] = (),
        timeout: float | None = None,
    ) -> Call[t.Reference]:
        """The reference after the change.

        Args:
            series: id of the series.
            reference_id: 64 hexadecimal digits.
            mask: which of "chapter", "page" and "tags" change; one that is named here and not given is cleared.
            chapter: thousandths.
            page: number in the chapter.
            tags: at most 32.
            timeout: seconds; None: the client's.

        Raises:
            NotFound: no such series or reference.
            InvalidInput: the mask names another field.
        """
        request = pb.UpdateReferenceRequest(
            series_id=series, reference=pb.Reference(id=reference_id, chapter=chapter, page=page, tags=tags)
        )
        request.update_mask.paths.extend(mask)
        return Call("UpdateReference", request, _only_reference, timeout)

    @asked
    def delete_references(
        self,
        series: str,
        reference_ids: Iterable[str],
        *,
        allow_missing: bool = False,
        purge: bool = False,
        timeout: float | None = None,
    ) -> Several[int]:
        """How many references were removed; per thousand ids all or none.

        Args:
            series: id of the series.
            reference_ids: of the references.
            allow_missing: whether ids that are not there are passed over.
            purge: whether they leave the store at once, instead of being kept for searches as of an earlier generation.
            timeout: of each thousand, seconds; None: the client's.

        Raises:
            NotFound: no such series; or one of the references is not there, and `allow_missing` is not set.
        """

        def calls() -> Iterator[Call[int]]:
            ids = iter(reference_ids)
            while batch := list(itertools.islice(ids, MOST_DELETED)):
                request = pb.DeleteReferencesRequest(
                    series_id=series, reference_ids=batch, allow_missing=allow_missing, purge=purge
                )
                # A second time would find them gone, and tell another number or NotFound.
                yield Call("DeleteReferences", request, _deleted, timeout, repeatable=False)

        return Several(calls, sum)


def _deleted(answer: pb.DeleteReferencesResponse) -> int:
    return answer.deleted


def _only_reference(answer: pb.GetReferenceResponse | pb.UpdateReferenceResponse) -> t.Reference:
    return decode_reference(answer.reference)


def _reference_page(answer: pb.ListReferencesResponse) -> tuple[Sequence[t.Reference], str]:
    return [decode_reference(one) for one in answer.references], answer.next_page_token


@dataclass
class _Download:
    reference_id: str
    _pictures: Pictures = field(default_factory=Pictures)
    _whole: t.Picture | None = None

    def feed(self, message: pb.DownloadReferenceResponse) -> None:
        if message.WhichOneof("message") == "picture":
            self._pictures.begin(message.picture)
        else:
            self._whole = self._pictures.add(message.chunk) or self._whole

    def finish(self) -> t.Picture:
        self._pictures.close()
        if self._whole is None:
            raise Disagreement(f"the server ended the download of {self.reference_id} without a picture")
        return self._whole


@dataclass
class _Adding(Exchange[t.ReferenceFile, t.AddResult]):
    series: str = ""
    request_id: str = ""
    names: dict[str, str] = field(default_factory=dict)  # of the files, by their key on the wire

    def admit(self, place: int, item: t.ReferenceFile) -> None:
        self.names[str(place)] = item.name

    def forget(self, place: int) -> None:
        del self.names[str(place)]

    def attempt(self) -> _AddAttempt:
        return _AddAttempt(self)

    def source(self, item: t.ReferenceFile) -> t.Source:
        return item.data

    def failed(self, item: t.ReferenceFile, error: Exception) -> t.AddResult:
        return unreadable(item.name, error)

    def failure(self, out: t.AddResult) -> t.Failure | None:
        return out.failure if out.failure is not None and out.failure.retryable else None


@dataclass
class _AddAttempt:
    exchange: _Adding

    def opening(self) -> pb.AddReferencesRequest:
        options = pb.AddReferencesOptions(series_id=self.exchange.series, request_id=self.exchange.request_id)
        return pb.AddReferencesRequest(options=options)

    def send(
        self, place: int, item: t.ReferenceFile, data: bytes, _context: t.Context | None
    ) -> Iterable[pb.AddReferencesRequest]:
        return reference_messages(str(place), item, data)

    def rest(self) -> Iterable[pb.AddReferencesRequest]:
        return ()

    def take(self, message: pb.AddReferencesResponse) -> Iterator[Answer[t.AddResult]]:
        yield _settled(message, self.exchange.names)


def _settled(answer: pb.AddReferencesResponse, names: dict[str, str]) -> Answer[t.AddResult]:
    if answer.key not in names:
        raise Disagreement(f"the server answered for picture {answer.key!r}, which it was not sent")
    return int(answer.key), decode_add_result(answer, names[answer.key])


@dataclass
class _Importing(Exchange[t.ImportedReference, t.AddResult]):
    series: str = ""
    space: str = ""
    request_id: str = ""
    names: dict[str, str] = field(default_factory=dict)  # of the references, by their key on the wire

    def admit(self, place: int, item: t.ImportedReference) -> None:
        self.names[str(place)] = item.name

    def forget(self, place: int) -> None:
        del self.names[str(place)]

    def attempt(self) -> _ImportAttempt:
        return _ImportAttempt(self)

    def source(self, item: t.ImportedReference) -> t.Source:
        return item.data

    def failed(self, item: t.ImportedReference, error: Exception) -> t.AddResult:
        return unreadable(item.name, error)

    def failure(self, out: t.AddResult) -> t.Failure | None:
        return out.failure if out.failure is not None and out.failure.retryable else None


@dataclass
class _ImportAttempt:
    exchange: _Importing
    packer: Packer = field(default_factory=Packer)

    def opening(self) -> pb.ImportReferencesRequest:
        options = pb.ImportReferencesOptions(
            series_id=self.exchange.series,
            embedding_space_id=self.exchange.space,
            request_id=self.exchange.request_id,
        )
        return pb.ImportReferencesRequest(options=options)

    def send(
        self, place: int, item: t.ImportedReference, data: bytes, _context: t.Context | None
    ) -> Iterable[pb.ImportReferencesRequest]:
        return _batches(self.packer.add(str(place), item, data))

    def rest(self) -> Iterable[pb.ImportReferencesRequest]:
        return _batches(self.packer.rest())

    def take(self, message: pb.ImportReferencesResponse) -> Iterator[Answer[t.AddResult]]:
        for answer in message.results:
            yield _settled(answer, self.exchange.names)


def _batches(batch: pb.ImportBatch | None) -> Iterable[pb.ImportReferencesRequest]:
    return () if batch is None else (pb.ImportReferencesRequest(batch=batch),)
