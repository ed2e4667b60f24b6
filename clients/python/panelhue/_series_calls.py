"""The calls that are about series and about the server: what RetrievalClient has of its kind."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from panelhue import types as t
from panelhue._calls import Call, Listing, asked, listed
from panelhue._messages import (
    decode_retrieval_info,
    decode_series,
    decode_stats,
    encode_index,
    encode_quota,
    encode_space,
    encode_swatch,
)
from panelhue.errors import UsageError
from panelhue.retrieval.v1 import retrieval_pb2 as pb

PAGE_SIZE = 500
CHANGEABLE = ("display_name", "palette", "labels", "index", "quota", "max_reference_depth", "default_max_depth")


class SeriesCalls:
    """Makes, reads, changes and removes series; tells what the server is.

    `timeout` is a call's deadline with all its attempts, seconds; None: the client's.
    """

    @asked
    def create_series(
        self,
        series: str = "",
        *,
        display_name: str = "",
        embedder: str = "",
        embedding_space: t.EmbeddingSpace | None = None,
        palette: Sequence[t.Swatch] = (),
        labels: Mapping[str, str] | None = None,
        index: t.IndexOptions | None = None,
        quota: t.Quota | None = None,
        max_reference_depth: int | None = None,
        default_max_depth: int | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Call[t.Series]:
        """A new, empty series.

        Args:
            series: its id; empty: made by the server from `display_name`.
            display_name: for people; empty: the id.
            embedder: name of the embedder; empty: the server's default. "vectors": the series takes ready-made vectors
                only, see `import_references`.
            embedding_space: needed with the embedder "vectors", with `model` and `dim` at least; its id is made by the
                server.
            palette: named colours, at most 256.
            labels: for the caller's own use.
            index: how its vectors are searched; None: exactly, in float32.
            quota: what it may hold; None: the server's limits alone.
            max_reference_depth: references of a greater provenance depth are rejected; None: no such limit.
            default_max_depth: the depth bound of searches that set none; 0: given colour only; None: none.
            request_id: the same one again answers as the first time; None: a fresh one, so that only a retry of this
                very call is recognised. Empty: none, and the call is not made again once it may have arrived.
            timeout: see the class.

        Raises:
            AlreadyExists: the id is taken.
            NotFound: no such embedder.
            FailedState: the embedder's package or weights are missing.
            InvalidInput: a field is wrong, or the request id came with another request before.
            Overloaded: too many series.
        """
        message = _series(
            id=series,
            display_name=display_name,
            embedder=embedder,
            palette=palette,
            labels=labels,
            index=index,
            quota=quota,
            max_reference_depth=max_reference_depth,
            default_max_depth=default_max_depth,
        )
        if embedding_space is not None:
            message.embedding_space.CopyFrom(encode_space(embedding_space))
        request = pb.CreateSeriesRequest(
            series=message, request_id=uuid.uuid4().hex if request_id is None else request_id
        )
        return Call("CreateSeries", request, _only_series, timeout, repeatable=bool(request.request_id))

    @asked
    def get_series(self, series: str, *, timeout: float | None = None) -> Call[t.Series]:
        """One series, by id.

        Raises:
            NotFound: there is none.
        """
        return Call("GetSeries", pb.GetSeriesRequest(series_id=series), _only_series, timeout)

    @listed
    def list_series(self, *, timeout: float | None = None) -> Listing[t.Series]:
        """All series, by id, fetched as they are read; `timeout` is that of each fetch."""

        def page(token: str) -> Call[tuple[Sequence[t.Series], str]]:
            request = pb.ListSeriesRequest(page_size=PAGE_SIZE, page_token=token)
            return Call("ListSeries", request, _series_page, timeout)

        return Listing(page)

    @asked
    def update_series(
        self,
        series: str,
        *,
        display_name: str | None = None,
        palette: Sequence[t.Swatch] | None = None,
        labels: Mapping[str, str] | None = None,
        index: t.IndexOptions | None = None,
        quota: t.Quota | None = None,
        max_reference_depth: int | None = None,
        default_max_depth: int | None = None,
        clear: Collection[str] = (),
        etag: str = "",
        timeout: float | None = None,
    ) -> Call[t.Series]:
        """The series after the change; None leaves a field as it is.

        Args:
            series: its id.
            display_name: for people.
            palette: takes the place of the old one.
            labels: take the place of the old ones.
            index: how its vectors are searched.
            quota: what it may hold.
            max_reference_depth: references of a greater provenance depth are rejected.
            default_max_depth: the depth bound of searches that set none.
            clear: names of fields among these that become unset, such as "max_reference_depth".
            etag: if given, must be the current one.
            timeout: see the class.

        Raises:
            UsageError: nothing is to be changed, a field is to be set and cleared, or it cannot change.
            NotFound: no such series.
            Conflict: `etag` is given and no longer the series' own.
        """
        given: dict[str, Any] = {
            "display_name": display_name,
            "palette": palette,
            "labels": labels,
            "index": index,
            "quota": quota,
            "max_reference_depth": max_reference_depth,
            "default_max_depth": default_max_depth,
        }
        names = [name for name, value in given.items() if value is not None]
        if both := sorted(set(clear).intersection(names)):
            raise UsageError(f"update_series can set or clear a field, not both; got both for {', '.join(both)}")
        if other := sorted(set(clear).difference(CHANGEABLE)):
            raise UsageError(f"update_series can clear {', '.join(CHANGEABLE)}, got {', '.join(other)}")
        if not names and not clear:
            raise UsageError(f"update_series needs at least one of {', '.join(CHANGEABLE)}, or one to clear")
        request = pb.UpdateSeriesRequest(series=_series(id=series, etag=etag, **given))
        request.update_mask.paths.extend([*names, *clear])
        # Setting the same values twice is setting them once, unless the first time has changed the etag.
        return Call("UpdateSeries", request, _only_series, timeout, repeatable=not etag)

    @asked
    def delete_series(
        self, series: str, *, force: bool = False, etag: str = "", timeout: float | None = None
    ) -> Call[int]:
        """How many references went with the series.

        Args:
            series: its id.
            force: needed where the pool holds references.
            etag: if given, must be the current one.
            timeout: see the class.

        Raises:
            NotFound: no such series.
            FailedState: it holds references and `force` is not set.
            Conflict: `etag` is given and no longer the series' own.
        """
        request = pb.DeleteSeriesRequest(series_id=series, force=force, etag=etag)
        return Call("DeleteSeries", request, lambda answer: int(answer.references_deleted), timeout, repeatable=False)

    @asked
    def stats(self, series: str, *, timeout: float | None = None) -> Call[t.SeriesStats]:
        """Counts and sizes of one series, and the migration that is under way.

        Raises:
            NotFound: no such series.
        """
        return Call("GetSeriesStats", pb.GetSeriesStatsRequest(series_id=series), decode_stats, timeout)

    @asked
    def info(self, *, timeout: float | None = None) -> Call[t.RetrievalInfo]:
        """Versions, embedders and limits of the server."""
        return Call("GetServerInfo", pb.GetServerInfoRequest(), decode_retrieval_info, timeout)


def _only_series(answer: pb.CreateSeriesResponse | pb.GetSeriesResponse | pb.UpdateSeriesResponse) -> t.Series:
    return decode_series(answer.series)


def _series_page(answer: pb.ListSeriesResponse) -> tuple[Sequence[t.Series], str]:
    return [decode_series(one) for one in answer.series], answer.next_page_token


def _series(
    *,
    display_name: str | None,
    palette: Sequence[t.Swatch] | None,
    labels: Mapping[str, str] | None,
    index: t.IndexOptions | None,
    quota: t.Quota | None,
    **others: Any,
) -> pb.Series:
    return pb.Series(
        display_name=display_name or "",
        palette=[encode_swatch(one) for one in palette or ()],
        labels=dict(labels or {}),
        index=encode_index(index) if index is not None else None,
        quota=encode_quota(quota) if quota is not None else None,
        **others,
    )
