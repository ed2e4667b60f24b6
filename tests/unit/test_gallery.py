"""Patches cut from stored references: away from the server's own process, once, and only from what can be read."""

from __future__ import annotations

import asyncio
import io
import os
import signal

import numpy as np
import pytest
from PIL import Image

from retrieval.cutting import Pieces
from retrieval.gallery import Gallery, cutters
from retrieval.types import Provenance, Reference, Shown, Wanted
from serving.errors import Conflict, FailedState, NotFound, Unavailable
from serving.geometry import Box
from serving.images import ImageLimits
from serving.workers import WorkerPool

LIMITS = ImageLimits(max_bytes=1 << 20, max_pixels=1 << 20)
WHOLE, CORNER, BEYOND = Box(0, 0, 40, 30), Box(10, 5, 30, 25), Box(0, 0, 41, 30)
COLOURS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)


def file_of(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def pixels_of(shown: Shown) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(shown.data)))


def wanted(box: Box | None = CORNER, name: str = "a") -> Wanted:
    reference = Reference(name, None, None, (), Provenance(), 40, 30, "image/png", 1, 1, 0)
    return Wanted("key", reference, box)


class Files:
    """The store: counts how often it is read."""

    def __init__(self, data: bytes = b"") -> None:
        self.data, self.reads = data or file_of(COLOURS), 0

    async def __call__(self, _series: str, reference_id: str) -> bytes:
        self.reads += 1
        if reference_id == "gone":
            raise NotFound("there is none", reason="NO_SUCH_REFERENCE")
        return self.data


@pytest.fixture(scope="module")
def in_gallery():
    """Gives what `work` gives, which is given a gallery; all of them share their processes."""
    with asyncio.Runner() as runner:

        async def begun():
            return cutters(LIMITS, 1)

        pool = runner.run(begun())

        async def run(work, files, cache_bytes):
            return await work(Gallery(files, pool, cache_bytes=cache_bytes, seconds=60.0))

        yield lambda work, files, cache_bytes=1 << 20: runner.run(run(work, files, cache_bytes))
        runner.run(pool.close())


def alone(work, files: Files, build):
    """What `work` gives, which is given a gallery with processes of its own."""

    async def run():
        pool = WorkerPool(build, (LIMITS,), workers=1, queue=9, name="cutter")
        gallery = Gallery(files, pool, cache_bytes=0, seconds=600.0)
        try:
            return await work(gallery)
        finally:
            await gallery.close()

    return asyncio.run(run())


def test_the_servers_own_process_opens_no_picture(in_gallery, monkeypatch):
    opened = []
    monkeypatch.setattr(Image, "open", lambda *_, **__: opened.append("here"))
    shown = in_gallery(lambda gallery: gallery.show("s", wanted(), 0), Files())
    monkeypatch.undo()
    assert not opened
    assert (shown.media_type, shown.width, shown.height) == ("image/png", 20, 20)
    assert np.array_equal(pixels_of(shown), COLOURS[5:25, 10:30])


def test_a_patch_is_shrunk_to_the_side_that_is_asked_for(in_gallery):
    shown = in_gallery(lambda gallery: gallery.show("s", wanted(WHOLE), 20), Files())
    assert (shown.width, shown.height) == (20, 15)
    assert pixels_of(shown).shape == (15, 20, 3)


def test_the_whole_reference_is_its_file(in_gallery):
    shown = in_gallery(lambda gallery: gallery.show("s", wanted(None), 0), files := Files())
    assert shown == Shown(files.data, "image/png", 40, 30)


def test_patches_of_one_reference_are_cut_together(in_gallery):
    async def work(gallery):
        together = [wanted(WHOLE), wanted(CORNER), wanted(CORNER, "other")]
        first = await gallery.show("s", together[0], 0, together)
        return first, await gallery.show("s", together[1], 0, together)

    whole, corner = in_gallery(work, files := Files())
    assert files.reads == 1
    assert np.array_equal(pixels_of(whole), COLOURS)
    assert np.array_equal(pixels_of(corner), COLOURS[5:25, 10:30])


def test_what_many_ask_for_at_once_is_cut_once(in_gallery):
    async def work(gallery):
        return await asyncio.gather(*(gallery.show("s", wanted(), 0) for _ in range(20)))

    shown = in_gallery(work, files := Files())
    assert files.reads == 1
    assert len(set(shown)) == 1


def test_a_caller_that_goes_takes_nobody_elses_patch_along(in_gallery):
    async def work(gallery):
        first, second = (asyncio.ensure_future(gallery.show("s", wanted(), 0)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert in_gallery(work, Files()).width == 20


def test_patches_are_kept_within_the_budget(in_gallery):
    async def work(gallery):
        boxes = [Box(n, 0, n + 10, 10) for n in range(20)]
        for box in boxes:
            await gallery.show("s", wanted(box), 0)
        kept = sum(len(shown.data) for shown in gallery._cache.values())
        assert 0 < kept == gallery._bytes <= 1000
        reads = files.reads
        await gallery.show("s", wanted(boxes[-1]), 0)  # the last ones are there still
        assert files.reads == reads
        await gallery.show("s", wanted(boxes[0]), 0)
        assert files.reads == reads + 1

    files = Files()
    in_gallery(work, files, cache_bytes=1000)


@pytest.mark.parametrize("kept", [0, 1 << 20])
def test_a_box_beyond_its_picture_fails_alone(in_gallery, kept):
    async def work(gallery):
        together = [wanted(BEYOND), wanted(CORNER)]
        with pytest.raises(FailedState) as caught:
            await gallery.show("s", together[0], 0, together)
        assert caught.value.reason == "REFERENCE_SIZE_WRONG"
        return await gallery.show("s", together[1], 0, together)

    assert in_gallery(work, Files(), cache_bytes=kept).width == 20


def test_a_reference_that_is_no_picture_is_told_as_such(in_gallery):
    async def work(gallery):
        with pytest.raises(FailedState) as caught:
            await gallery.show("s", wanted(), 0)
        assert caught.value.reason == "REFERENCE_UNREADABLE"
        assert "reference a " in caught.value.message

    in_gallery(work, Files(b"\x89PNG\r\n\x1a\n" + bytes(40)))


def test_a_picture_that_is_larger_than_the_limits_is_not_decoded(in_gallery):
    async def work(gallery):
        with pytest.raises(FailedState) as caught:
            await gallery.show("s", wanted(), 0)
        assert caught.value.reason == "REFERENCE_UNREADABLE"

    in_gallery(work, Files(file_of(np.zeros((1025, 1025, 3), np.uint8))))


def test_a_reference_that_was_removed_after_it_was_found_is_gone(in_gallery):
    async def work(gallery):
        for box in (CORNER, None):
            with pytest.raises(Conflict) as caught:
                await gallery.show("s", wanted(box, "gone"), 0)
            assert caught.value.reason == "REFERENCE_GONE"

    in_gallery(work, Files())


def deadly(_limits):
    """A decoder that some pictures end."""

    def handle(cut, _context):
        if cut.data == b"deadly":
            os.kill(os.getpid(), signal.SIGKILL)
        return Pieces(tuple(Shown(b"cut", "image/png", 1, 1) for _ in cut.boxes), 40, 30)

    return handle


def test_a_picture_that_ends_what_reads_it_is_refused_and_others_are_shown():
    async def work(gallery):
        with pytest.raises(FailedState) as caught:
            await gallery.show("s", wanted(), 0)
        assert caught.value.reason == "REFERENCE_UNREADABLE"
        files.data = b"harmless"
        return await gallery.show("s", wanted(), 0)

    files = Files(b"deadly")
    assert alone(work, files, deadly).data == b"cut"


def endless(_limits):
    """A decoder that never ends."""

    def handle(_cut, context):
        while True:
            context.check()

    return handle


def test_closing_ends_what_is_being_cut():
    async def work(gallery):
        waiting = [asyncio.ensure_future(gallery.show("s", wanted(CORNER, name), 0)) for name in "ab"]
        while not gallery._pool.running:
            await asyncio.sleep(0.01)
        await gallery.close()
        for one in waiting:
            with pytest.raises(Unavailable) as caught:
                await one
            assert caught.value.reason == "DRAINING"

    alone(work, Files(), endless)
