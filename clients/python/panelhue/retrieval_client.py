"""A client of the retrieval server."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import grpc

from panelhue import types as t
from panelhue._channel import UNARY_SECONDS, Sender, answers, stream
from panelhue._imports import batches, unreadable
from panelhue._messages import decode_add_result, decode_reference, encode_bound
from panelhue._search_calls import SearchCalls
from panelhue._series_calls import PAGE_SIZE, SeriesCalls
from panelhue._streams import Pictures, reference_messages
from panelhue.errors import BookError, Disagreement
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
    "SearchText",
    "GetSeriesStats",
    "GetServerInfo",
)
CALLER_KEY = "panelhue-caller"  # metadata; quotas per caller go by it


class RetrievalClient(SeriesCalls, SearchCalls):
    """The pools of a retrieval server. A context manager; safe to use from several threads.

    Every method raises a `PanelhueError` whose class follows the server's status.

    Args:
        target: address, such as "127.0.0.1:50051".
        timeout: deadline of each call that moves no pictures, seconds.
        credentials: for an encrypted channel; None: plain text.
        caller: name under which a server with quotas per caller counts what is added; empty: this machine's address.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout: float = UNARY_SECONDS,
        credentials: grpc.ChannelCredentials | None = None,
        caller: str = "",
    ) -> None:
        super().__init__(target, SERVICE, IDEMPOTENT, timeout, credentials)
        self._stub = pb_grpc.RetrievalServiceStub(self._channel)  # type: ignore[no-untyped-call]  # generated
        self._metadata = ((CALLER_KEY, caller),) if caller else ()

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
                    sender.local.append(unreadable(file.name, error))
                    continue
                names[str(place)] = file.name
                yield from reference_messages(str(place), file, data)

        sender: Sender[pb.AddReferencesRequest, t.AddResult] = Sender(requests)
        responses: Iterator[pb.AddReferencesResponse] = stream(
            self._stub.AddReferences, sender, self.target, timeout, self._metadata
        )
        for answer in responses:
            while sender.local:
                yield sender.local.popleft()
            if answer.key not in names:
                raise Disagreement(f"the server answered for picture {answer.key!r}, which it was not sent")
            yield decode_add_result(answer, names.pop(answer.key))
        yield from sender.local
        if names:
            raise Disagreement(f"the server ended the stream without an answer for {next(iter(names.values()))!r}")

    def import_references(
        self,
        series: str,
        references: Iterable[t.ImportedReference],
        *,
        embedding_space_id: str,
        timeout: float | None = None,
        request_id: str = "",
    ) -> Iterator[t.AddResult]:
        """What became of each reference whose vectors are made already, in the order of answers.

        References are sent in batches of at most 1000 and some 3 MiB, each of which is stored in one transaction; a
        batch's results come when it is synced to disk. One that cannot be read, or is too large for any batch, is
        rejected with the reason FILE_UNREADABLE or REFERENCE_TOO_LARGE and the rest goes on. Stopping early cancels
        what is not yet acknowledged.

        Args:
            series: id of the series.
            references: may be a generator; it is run in another thread.
            embedding_space_id: where the vectors were made; must be the series' own, see `Series.embedding_space`.
            timeout: deadline of the whole stream, seconds; None: none.
            request_id: for the server's log.

        Raises:
            FailedState: the vectors are of another embedding space.
            Overloaded: the disk is full, or a quota is used up.
        """
        names: dict[str, str] = {}
        options = pb.ImportReferencesOptions(
            series_id=series, embedding_space_id=embedding_space_id, request_id=request_id
        )

        def requests(sender: Sender[pb.ImportReferencesRequest, t.AddResult]) -> Iterator[pb.ImportReferencesRequest]:
            yield pb.ImportReferencesRequest(options=options)
            for batch in batches(references, names, sender.local):
                yield pb.ImportReferencesRequest(batch=batch)

        sender: Sender[pb.ImportReferencesRequest, t.AddResult] = Sender(requests)
        responses: Iterator[pb.ImportReferencesResponse] = stream(
            self._stub.ImportReferences, sender, self.target, timeout, self._metadata
        )
        for response in responses:
            while sender.local:
                yield sender.local.popleft()
            for answer in response.results:
                if answer.key not in names:
                    raise Disagreement(f"the server answered for reference {answer.key!r}, which it was not sent")
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
            answer = self._ask(self._stub.ListReferences, request)
            yield from (decode_reference(one) for one in answer.references)
            if not (token := answer.next_page_token):
                return

    def get_reference(self, series: str, reference_id: str) -> t.Reference:
        """One reference without its pixels."""
        request = pb.GetReferenceRequest(series_id=series, reference_id=reference_id)
        return decode_reference(self._ask(self._stub.GetReference, request).reference)

    def download(self, series: str, reference_id: str, *, timeout: float | None = 120.0) -> t.Picture:
        """A reference's picture, byte for byte as it was added."""
        request = pb.DownloadReferenceRequest(series_id=series, reference_id=reference_id)
        pictures, whole = Pictures(), None
        responses: Iterator[pb.DownloadReferenceResponse] = answers(
            self._stub.DownloadReference, request, self.target, timeout
        )
        for answer in responses:
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
        return decode_reference(self._ask(self._stub.UpdateReference, request).reference)

    def delete_references(
        self, series: str, reference_ids: Iterable[str], *, allow_missing: bool = False, purge: bool = False
    ) -> int:
        """How many references were removed; per thousand ids all or none.

        Args:
            series: id of the series.
            reference_ids: of the references.
            allow_missing: whether ids that are not there are passed over.
            purge: whether they leave the store at once, instead of being kept for searches as of an earlier generation.
        """
        ids = iter(reference_ids)
        deleted = 0
        while batch := list(itertools.islice(ids, 1000)):
            request = pb.DeleteReferencesRequest(
                series_id=series, reference_ids=batch, allow_missing=allow_missing, purge=purge
            )
            deleted += self._ask(self._stub.DeleteReferences, request).deleted
        return deleted
