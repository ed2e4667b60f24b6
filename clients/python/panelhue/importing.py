"""A carried series put into a server: verified first, and the same again changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from panelhue import types as t
from panelhue.errors import NotFound, UsageError
from panelhue.portable import Carried, Contents, Portable, quiet
from panelhue.retrieval_client import RetrievalClient


@dataclass
class Imported:
    """What became of an import."""

    series: str
    made: bool  # whether the series was not there before
    references: int = 0  # that the file holds
    added: int = 0
    already_present: int = 0
    rejected: dict[str, str] = field(default_factory=dict)  # reference id to why
    different: list[str] = field(default_factory=list)  # there with another chapter, page, tags or provenance
    notes: list[str] = field(default_factory=list)  # what is not as it was where it came from, a sentence each


def import_series(
    client: RetrievalClient,
    carried: Portable,
    series: str = "",
    *,
    embedder: str = "",
    merge: bool = False,
    tell: Callable[[int, int], None] = quiet,
) -> Imported:
    """Adds what a verified file holds to a series, which is made first if it is not there.

    Args:
        client: of the server that shall have it.
        carried: the file; call its `verify` first.
        series: another id than it had; empty: the same.
        embedder: of a series that is made; empty: as it was, or else the server's default.
        merge: whether references are added to a series that holds others.
        tell: is told how many references were answered, and how many there are.

    Raises:
        UsageError: the series holds references that the file does not, and `merge` is not set.
        ServerError: the server refuses, or went away; what was added stays, and the same call goes on.
    """
    contents, name = carried.contents, series or carried.contents.series.id
    result = Imported(name, made=False, references=contents.references)
    there = _there(client, name)
    if there is None:
        _make(client, name, contents, embedder, result)
    elif not merge:
        _refuse_strangers(client, name, carried)
    wanted: dict[str, Carried] = {}

    def files() -> Iterator[t.ReferenceFile]:
        for one in carried.references():
            wanted[one.id] = one
            yield one.file

    for place, answer in enumerate(client.add_references(name, files())):
        tell(place + 1, contents.references)
        _count(answer, wanted.pop(answer.name), result)
    return result


def _there(client: RetrievalClient, name: str) -> t.Series | None:
    try:
        return client.get_series(name)
    except NotFound:
        return None


def _make(client: RetrievalClient, name: str, contents: Contents, embedder: str, result: Imported) -> None:
    was = contents.series
    if not embedder:
        info = client.info()
        embedder = was.embedder if was.embedder in info.embedders else ""
        if not embedder:
            result.notes.append(
                f"the server has no embedder {was.embedder}; {name} gets its default, {info.default_embedder}"
            )
    made = client.create_series(
        name,
        display_name=was.display_name if name == was.id or was.display_name != was.id else "",
        embedder=embedder,
        palette=was.palette,
        labels=was.labels,
        index=was.index,
        quota=was.quota,
        max_reference_depth=was.max_reference_depth,
        default_max_depth=was.default_max_depth,
    )
    result.made = True
    if made.embedding_space.id != was.embedding_space.id:
        result.notes.append(f"the embedding space is {made.embedding_space.id}; it was {was.embedding_space.id}")


def _refuse_strangers(client: RetrievalClient, name: str, carried: Portable) -> None:
    """A pool within the file's is one whose import was stopped, or is repeated; any other is somebody's own."""
    ids = {one.id for one in carried.references()}
    strangers = [one.id for one in client.list_references(name) if one.id not in ids]
    if strangers:
        raise UsageError(
            f"the series {name} is there and holds {len(strangers)} references that the file does not; "
            "import it under another id with --as, or say --merge to add to it"
        )


def _count(answer: t.AddResult, wanted: Carried, result: Imported) -> None:
    if answer.failure is not None:
        result.rejected[wanted.id] = f"{answer.failure.reason}: {answer.failure.message}"
    elif answer.status is t.AddStatus.ALREADY_PRESENT:
        result.already_present += 1
    else:
        result.added += 1
    if answer.reference is not None and not _alike(answer.reference, wanted.file):
        result.different.append(wanted.id)


def _alike(there: t.Reference, file: t.ReferenceFile) -> bool:
    mine, theirs = ((one.chapter, one.page, sorted(one.tags), one.provenance) for one in (file, there))
    return mine == theirs
