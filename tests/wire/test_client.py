"""The client's calls against both real servers."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from panelhue import errors
from panelhue import types as t
from panelhue.colorizer_client import ColorizerClient
from panelhue.retrieval_client import RetrievalClient
from tests.wire import command_line
from tests.wire.command_line import Command

panelhue, comic = command_line.panelhue, command_line.comic  # fixtures


@pytest.fixture(scope="module")
def pools(panelhue: Command) -> Iterator[RetrievalClient]:
    with RetrievalClient(panelhue.environment["PANELHUE_RETRIEVAL"]) as client:
        yield client


@pytest.fixture(scope="module")
def front(panelhue: Command) -> Iterator[ColorizerClient]:
    with ColorizerClient(panelhue.environment["PANELHUE_COLORIZER"]) as client:
        yield client


@pytest.fixture(scope="module")
def series(pools: RetrievalClient, comic: Path) -> str:
    """Two pages of chapter 1 and one of chapter 2, the last one generated."""
    truth = [
        comic / "truth" / "ch01" / "p01.png",
        comic / "truth" / "ch01" / "p02.png",
        comic / "truth" / "ch02" / "p01.png",
    ]
    made = t.Provenance(t.Origin.GENERATED, depth=1, backend="exemplar")
    files = [
        t.ReferenceFile("one", truth[0], chapter=1000, page=1, tags=("given",)),
        t.ReferenceFile("two", truth[1].read_bytes(), chapter=1000, page=2),
        t.ReferenceFile("three", truth[2].read_bytes, chapter=2000, page=1, provenance=made),
    ]
    pools.create_series("tale")
    assert {result.status for result in pools.add_references("tale", files)} == {t.AddStatus.ADDED}
    return "tale"


def test_references_come_back_as_they_were_added(pools: RetrievalClient, series: str, comic: Path) -> None:
    found = {(one.chapter, one.page): one for one in pools.list_references(series)}
    assert set(found) == {(1000, 1), (1000, 2), (2000, 1)}
    assert found[2000, 1].provenance == t.Provenance(t.Origin.GENERATED, depth=1, backend="exemplar")
    picture = pools.download(series, found[1000, 1].id)
    assert picture.data == (comic / "truth" / "ch01" / "p01.png").read_bytes()
    assert (found[1000, 1].width, found[1000, 1].height, picture.media_type) == (200, 282, "image/png")


def test_a_listing_keeps_to_its_bound(pools: RetrievalClient, series: str) -> None:
    bounds = [
        t.Bound(max_chapter=1000),
        t.Bound(max_depth=0),
        t.Bound(all_tags=("given",)),
        t.Bound(none_tags=("given",)),
    ]
    assert [len(list(pools.list_references(series, bound=bound))) for bound in bounds] == [2, 2, 1, 2]


@pytest.mark.parametrize("pixels", list(t.Pixels))
def test_a_context_has_hits_for_each_corner_and_the_pixels_asked_for(
    pools: RetrievalClient, series: str, comic: Path, pixels: t.Pixels
) -> None:
    page = (comic / "grey" / "ch01" / "p02.png").read_bytes()
    context = pools.retrieve_context(series, page, hits_per_corner=2, pixels=pixels, bound=t.Bound(max_chapter=1000))
    corners = [(hit.corner, hit.rank) for hit in context.hits]
    assert corners == [(corner, rank) for corner in list(t.Corner)[1:] for rank in (0, 1)]
    assert {hit.chapter for hit in context.hits} == {1000}
    assert (context.page_width, context.page_height) == (200, 282)
    assert bool(context.pictures) == (pixels is not t.Pixels.NONE)
    for hit in context.hits if context.pictures else ():
        with Image.open(io.BytesIO(context.pictures[hit.picture_key].data)) as image:
            box = hit.picture_box or t.Box(0, 0, *image.size)
            assert (box.x1 - box.x0, box.y1 - box.y0) == (hit.box.x1 - hit.box.x0, hit.box.y1 - hit.box.y0)


def test_a_stored_reference_does_not_find_itself(pools: RetrievalClient, series: str) -> None:
    mine = next(one.id for one in pools.list_references(series))
    context = pools.retrieve_context(series, reference_id=mine, pixels=t.Pixels.NONE)
    assert mine not in {hit.reference_id for hit in context.hits}


def test_a_context_needs_a_page_or_a_reference(pools: RetrievalClient, series: str) -> None:
    with pytest.raises(errors.UsageError):
        pools.retrieve_context(series)


def test_raw_vectors_are_searched(pools: RetrievalClient, series: str) -> None:
    space = pools.get_series(series).embedding_space
    vectors = struct.pack(f"<{space.dim}f", *range(1, space.dim + 1))
    hits = pools.search(series, vectors, space.dim, k=2, embedding_space_id=space.id)
    assert [(hit.query, hit.rank) for hit in hits] == [(0, 0), (0, 1)]
    with pytest.raises(errors.InvalidInput):
        pools.search(series, vectors[4:], space.dim - 1)


def test_a_references_fields_change(pools: RetrievalClient, comic: Path) -> None:
    pools.create_series("fields")
    file = t.ReferenceFile("a", comic / "truth" / "ch01" / "p01.png", chapter=1000, page=1)
    [added] = pools.add_references("fields", [file])
    assert added.reference is not None
    changed = pools.update_reference("fields", added.reference.id, mask=["chapter", "tags"], tags=["sheet"])
    assert (changed.chapter, changed.page, changed.tags) == (None, 1, ("sheet",))
    assert pools.get_reference("fields", added.reference.id) == changed
    assert pools.delete_references("fields", [added.reference.id, "0" * 64], allow_missing=True) == 1
    assert pools.stats("fields").references == 0


def test_errors_of_both_servers_have_their_class_and_reason(
    pools: RetrievalClient, front: ColorizerClient, series: str
) -> None:
    with pytest.raises(errors.NotFound) as caught:
        pools.get_series("nobody")
    assert caught.value.reason
    with pytest.raises(errors.AlreadyExists):
        pools.create_series(series)
    with pytest.raises(errors.InvalidInput) as wrong:
        pools.create_series("NOT AN ID")
    assert wrong.value.violations[0].field == "series.id"
    with pytest.raises(errors.FailedState):
        pools.delete_series(series)
    with pytest.raises(errors.NotFound):
        front.backend("nobody")
    with pytest.raises(errors.NotFound):
        list(pools.add_references("nobody", [t.ReferenceFile("a", b"x")]))


def test_pages_finish_in_order_and_tell_what_they_used(
    front: ColorizerClient, pools: RetrievalClient, series: str, comic: Path
) -> None:
    pages = [t.PageFile(name, comic / "grey" / "ch02" / name) for name in ("p03.png", "p01.png", "p02.png")]
    options = t.ColorizeOptions(backend="tint", series=t.SeriesContext(series, t.Bound(max_chapter=1000), 2))
    finished = [event for event in front.colorize(pages, options) if isinstance(event, t.Finished)]
    assert [event.key for event in finished] == ["p03.png", "p01.png", "p02.png"]
    assert {hit.chapter for event in finished for hit in event.result.references} == {1000}
    assert {event.result.generation for event in finished} == {pools.get_series(series).generation}


def test_a_call_that_is_left_early_frees_the_server(front: ColorizerClient, series: str, comic: Path) -> None:
    page = comic / "grey" / "ch02" / "p01.png"
    options = t.ColorizeOptions(series=t.SeriesContext(series))
    events = front.colorize([t.PageFile("a", page)], options)
    assert isinstance(next(events), t.Accepted)
    events.close()
    again = list(front.colorize([t.PageFile("b", page)], t.ColorizeOptions(backend="tint")))
    assert isinstance(again[-1], t.Finished)
    assert front.info().queue_length == 0


@pytest.fixture(scope="module")
def painted(front: ColorizerClient, series: str, comic: Path) -> Callable[..., Image.Image]:
    """The first page of chapter 2 as `exemplar` paints it, with hints or a palette."""

    def paint(hints: tuple[t.Hint, ...] = (), palette: tuple[t.Swatch, ...] = ()) -> Image.Image:
        context = t.SeriesContext(series, t.Bound(max_chapter=1000), 3)
        options = t.ColorizeOptions(backend="exemplar", series=context, palette=palette, steps=8)
        page = t.PageFile("p", comic / "grey" / "ch02" / "p01.png", hints=hints)
        last = list(front.colorize([page], options))[-1]
        assert isinstance(last, t.Finished), last
        return Image.open(io.BytesIO(last.picture.data)).convert("RGB")

    return paint


def test_a_palette_through_the_client_changes_colour_alone(painted: Callable[..., Image.Image]) -> None:
    plain, drawn = painted(), painted(palette=(t.Swatch("coat", 0x8C344E), t.Swatch("hair", 0xCE9A26)))
    assert plain.tobytes() != drawn.tobytes()
    assert plain.convert("L").tobytes() == drawn.convert("L").tobytes()


def test_a_hint_through_the_client_colours_its_place(painted: Callable[..., Image.Image]) -> None:
    grey = painted().convert("L")
    spot = next((x, y) for y in range(40, 240) for x in range(20, 180) if 110 < grey.getpixel((x, y)) < 150)
    red, green, blue = painted(hints=(t.Hint(*spot, rgb=0x3060E0, radius=3.0),)).getpixel(spot)
    assert blue > red + 40
    assert blue > green + 20
