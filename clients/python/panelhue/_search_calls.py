"""The calls that search: what RetrievalClient has of their kind."""

from __future__ import annotations

from collections.abc import Iterator

from panelhue import types as t
from panelhue._calls import Call, Gathered, asked
from panelhue._messages import decode_hit, encode_bound, number
from panelhue._streams import ContextReceiver, chunks_of
from panelhue.common.v1 import common_pb2 as common
from panelhue.errors import UsageError
from panelhue.retrieval.v1 import retrieval_pb2 as pb


class SearchCalls:
    """Searches by page, by vectors and by text.

    Where a call takes them: `min_generation` is a generation that the pool must have reached (0: any);
    `as_of_generation` searches the pool as it was at that generation (0: as it is); `max_hits_per_reference` is how
    many hits of one corner, vector or text may come from one reference (0: any number; near duplicates count as one);
    `diversity`, [0, 1], trades score for variety (0: the best by score).
    """

    @asked
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
        as_of_generation: int = 0,
        max_hits_per_reference: int = 0,
        diversity: float = 0.0,
        request_id: str = "",
        timeout: float | None = 120.0,
    ) -> Gathered[t.Context]:
        """The context of a page.

        Args:
            series: id of the series.
            page: an encoded picture; or else give `reference_id`.
            reference_id: a stored reference to search by; it does not find itself.
            hits_per_corner: 1 to 64; 0 means 3.
            bound: who may answer; None: all.
            pixels: what comes with the hits.
            max_patch_side: patches with a longer side are shrunk to it, pixels; 0: not shrunk.
            min_generation: see the class.
            as_of_generation: see the class.
            max_hits_per_reference: see the class.
            diversity: see the class.
            request_id: for the server's log.
            timeout: of the whole call with all its attempts, seconds; None: none.

        Raises:
            UsageError: neither a page nor a reference is given, or both.
            NotFound: no such series or reference.
            InvalidInput: the page cannot be read, or a field is wrong.
            FailedState: the pool has not reached `min_generation`, or its history not so far back.
            Overloaded: too many searches at once, over all attempts.
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
            as_of_generation=as_of_generation,
            max_hits_per_reference=max_hits_per_reference,
            diversity=diversity,
            request_id=request_id,
        )
        if page is None:
            options.reference_id = reference_id
        else:
            options.page.CopyFrom(common.PictureHeader(key="page", byte_size=len(page)))

        def requests() -> Iterator[pb.RetrieveContextRequest]:
            yield pb.RetrieveContextRequest(options=options)
            for chunk in chunks_of("page", page) if page is not None else ():
                yield pb.RetrieveContextRequest(chunk=chunk)

        return Gathered("RetrieveContext", requests, ContextReceiver, timeout)

    @asked
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
        as_of_generation: int = 0,
        max_hits_per_reference: int = 0,
        diversity: float = 0.0,
        timeout: float | None = None,
    ) -> Call[tuple[t.Hit, ...]]:
        """The nearest stored patches of raw vectors, by query, then rank.

        Args:
            series: id of the series.
            vectors: 1 to 256 of them one after the other, little-endian float32: `array.astype("<f4").tobytes()`.
            dim: length of one.
            k: hits per vector, 1 to 1000; 0 means 10.
            bound: who may answer; None: all.
            embedding_space_id: where the vectors were made; empty: not checked.
            min_generation: see the class.
            as_of_generation: see the class.
            max_hits_per_reference: see the class.
            diversity: see the class.
            timeout: seconds; None: the client's.

        Raises:
            NotFound: no such series.
            InvalidInput: the vectors have another length than the series', or a field is wrong.
            FailedState: the vectors are of another embedding space, or as `retrieve_context`.
            Overloaded: too many searches at once, over all attempts.
        """
        request = pb.SearchVectorsRequest(
            series_id=series,
            dim=dim,
            vectors=vectors,
            k=k,
            bound=encode_bound(bound or t.Bound()),
            embedding_space_id=embedding_space_id,
            min_generation=min_generation,
            as_of_generation=as_of_generation,
            max_hits_per_reference=max_hits_per_reference,
            diversity=diversity,
        )
        return Call("SearchVectors", request, _hits, timeout)

    @asked
    def search_text(
        self,
        series: str,
        text: str,
        *,
        k: int = 0,
        bound: t.Bound | None = None,
        min_generation: int = 0,
        as_of_generation: int = 0,
        max_hits_per_reference: int = 0,
        diversity: float = 0.0,
        timeout: float | None = None,
    ) -> Call[tuple[t.Hit, ...]]:
        """The nearest stored patches of a text, best first.

        Args:
            series: id of the series.
            text: what to look for, 1 to 1024 bytes.
            k: hits, 1 to 1000; 0 means 10.
            bound: who may answer; None: all.
            min_generation: see the class.
            as_of_generation: see the class.
            max_hits_per_reference: see the class.
            diversity: see the class.
            timeout: seconds; None: the client's.

        Raises:
            NotFound: no such series.
            FailedState: the series' embedder has no text tower, or as `retrieve_context`.
            Overloaded: too many searches at once, over all attempts.
        """
        request = pb.SearchTextRequest(
            series_id=series,
            text=text,
            k=k,
            bound=encode_bound(bound or t.Bound()),
            min_generation=min_generation,
            as_of_generation=as_of_generation,
            max_hits_per_reference=max_hits_per_reference,
            diversity=diversity,
        )
        return Call("SearchText", request, _hits, timeout)


def _hits(answer: pb.SearchVectorsResponse | pb.SearchTextResponse) -> tuple[t.Hit, ...]:
    return tuple(decode_hit(one) for one in answer.hits)
