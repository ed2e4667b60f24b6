"""The calls that are about series and about the server: what RetrievalClient has of its kind."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from panelhue import types as t
from panelhue._channel import Connection
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

if TYPE_CHECKING:
    from panelhue.retrieval.v1 import retrieval_pb2_grpc as pb_grpc

PAGE_SIZE = 500
CHANGEABLE = ("display_name", "palette", "labels", "index", "quota", "max_reference_depth", "default_max_depth")


class SeriesCalls(Connection):
    """Makes, reads, changes and removes series; tells what the server is."""

    _stub: pb_grpc.RetrievalServiceStub

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
    ) -> t.Series:
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
                very call is recognised.

        Raises:
            AlreadyExists: the id is taken.
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
        return decode_series(self._ask(self._stub.CreateSeries, request).series)

    def get_series(self, series: str) -> t.Series:
        """One series, by id."""
        return decode_series(self._ask(self._stub.GetSeries, pb.GetSeriesRequest(series_id=series)).series)

    def list_series(self) -> Iterator[t.Series]:
        """All series, by id, fetched as they are read."""
        token = ""
        while True:
            request = pb.ListSeriesRequest(page_size=PAGE_SIZE, page_token=token)
            answer = self._ask(self._stub.ListSeries, request)
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
        index: t.IndexOptions | None = None,
        quota: t.Quota | None = None,
        max_reference_depth: int | None = None,
        default_max_depth: int | None = None,
        clear: Collection[str] = (),
        etag: str = "",
    ) -> t.Series:
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

        Raises:
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
        return decode_series(self._ask(self._stub.UpdateSeries, request).series)

    def delete_series(self, series: str, *, force: bool = False, etag: str = "") -> int:
        """How many references went with the series.

        Args:
            series: its id.
            force: needed where the pool holds references.
            etag: if given, must be the current one.
        """
        request = pb.DeleteSeriesRequest(series_id=series, force=force, etag=etag)
        return int(self._ask(self._stub.DeleteSeries, request).references_deleted)

    def stats(self, series: str) -> t.SeriesStats:
        """Counts and sizes of one series, and the migration that is under way."""
        return decode_stats(self._ask(self._stub.GetSeriesStats, pb.GetSeriesStatsRequest(series_id=series)))

    def info(self) -> t.RetrievalInfo:
        """Versions, embedders and limits of the server."""
        return decode_retrieval_info(self._ask(self._stub.GetServerInfo, pb.GetServerInfoRequest()))


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
