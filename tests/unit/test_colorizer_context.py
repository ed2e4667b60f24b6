"""Hits cut from the pictures of a context."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from colorizer.context import PictureCache, corner_hits
from colorizer.tasks import FoundHit
from serving.errors import InvalidInput
from serving.geometry import Box


def picture_of(data: bytes) -> np.ndarray:
    """Ten pixels high, as wide as the first byte says, a ramp in red."""
    if not data:
        raise InvalidInput("nothing there", reason="IMAGE_UNREADABLE")
    pixels = np.zeros((10, data[0], 3), np.uint8)
    pixels[..., 0] = np.arange(data[0])
    return pixels


def cache(max_bytes: int = 10_000) -> PictureCache:
    return PictureCache(picture_of, max_bytes)


def found(corner: int = 0, rank: int = 0, picture: str = "r", **changes: object) -> FoundHit:
    facts = {"score": 0.5, "reference_id": "ab", "picture_box": None, "box": None, "reference_size": None, **changes}
    return FoundHit(corner=corner, rank=rank, picture=picture, **facts)


PICTURES = {"r": b"\x14", "s": b"\x28"}  # 20 and 40 pixels wide


def test_a_hit_without_boxes_is_its_whole_picture():
    corners, _, _ = corner_hits([found()], PICTURES, cache())
    (hit,) = corners[0]
    assert (hit.pixels.shape, hit.box, hit.reference_size) == ((10, 20, 3), Box(0, 0, 20, 10), (20, 10))


def test_a_picture_box_cuts_the_patch_out_of_its_reference():
    corners, _, _ = corner_hits([found(picture_box=Box(5, 2, 15, 8))], PICTURES, cache())
    (hit,) = corners[0]
    assert hit.pixels[:, :, 0].tolist() == [list(range(5, 15))] * 6
    assert (hit.box, hit.reference_size) == (Box(5, 2, 15, 8), (20, 10))


def test_a_shrunk_patch_keeps_its_place_in_the_reference():
    hit = corner_hits([found(box=Box(0, 0, 80, 40), reference_size=(100, 50))], PICTURES, cache())[0][0][0]
    assert (hit.pixels.shape[:2], hit.box, hit.reference_size) == ((10, 20), Box(0, 0, 80, 40), (100, 50))


def test_hits_come_by_corner_and_rank_and_their_places_are_told():
    hits = [found(2, 1, score=0.1), found(0, 0), found(2, 0, score=0.9)]
    corners, places, _ = corner_hits(hits, PICTURES, cache())
    assert [[hit.score for hit in corner] for corner in corners] == [[0.5], [], [0.9, 0.1], []]
    assert places == ((2, 1), (0, 0), (2, 0))


@pytest.mark.parametrize(
    "bad",
    [
        found(picture_box=Box(0, 0, 21, 5)),
        found(picture_box=Box(0, 5, 20, 11)),
        found(box=Box(0, 0, 5, 9), reference_size=(5, 8)),
    ],
)
def test_a_box_outside_is_refused(bad):
    with pytest.raises(InvalidInput) as caught:
        corner_hits([bad], PICTURES, cache())
    assert caught.value.reason == "INVALID_CONTEXT"


def test_a_reference_of_two_sizes_is_refused():
    with pytest.raises(InvalidInput, match="one size"):
        corner_hits([found(), found(1, picture="s")], PICTURES, cache())


def test_a_picture_that_cannot_be_read_is_named():
    with pytest.raises(InvalidInput, match="'r' cannot be used: nothing there"):
        corner_hits([found()], {"r": b""}, cache())


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (found(0, 1, picture="none", reference_id="cd"), "nothing there"),
        (found(0, 1, picture_box=Box(0, 0, 21, 5), reference_id="cd"), "must lie inside context picture"),
        (found(0, 1, box=Box(0, 0, 5, 9), reference_size=(5, 8), reference_id="cd"), "must lie inside its reference"),
        (found(0, 1, picture="s"), "must have one size"),
    ],
)
def test_what_the_pool_cannot_show_is_left_out_and_said(bad, why):
    hits, pictures = [found(), bad, found(0, 2)], {**PICTURES, "none": b""}
    corners, places, said = corner_hits(hits, pictures, cache(), spare=True)
    assert len(corners[0]) == 2
    assert places == ((0, 0), None, (0, 1))
    assert len(said) == 1
    assert said[0].startswith(f"reference {bad.reference_id}… was left out: ")
    assert why in said[0]


def test_a_context_of_which_nothing_can_be_used_is_refused_all_the_same():
    with pytest.raises(InvalidInput, match="nothing there"):
        corner_hits([found()], {"r": b""}, cache(), spare=True)


def test_what_is_too_much_of_a_pools_pictures_is_left_out_worst_first():
    hits = [found(0, n, picture=str(n), reference_id=f"{n}{n}") for n in range(4)]
    corners, places, said = corner_hits(
        hits, {str(n): bytes([20, n]) for n in range(4)}, cache(), most_pixels=799, spare=True
    )
    assert len(corners[0]) == 3
    assert places[3] is None
    assert said[0].startswith("reference 33… was left out")
    assert "together" in said[0]


def test_a_pools_picture_that_claims_to_be_huge_keeps_no_other_one():
    out = io.BytesIO()
    Image.new("1", (9000, 9000)).save(out, "PNG")

    def decode(data: bytes) -> np.ndarray:
        if data == out.getvalue():
            raise InvalidInput("it is too large", reason="IMAGE_TOO_LARGE")
        return picture_of(data)

    hits = [found(0, 0, picture="huge", reference_id="cd"), found(0, 1)]
    for most in (1000, 90_000_000):
        pictures = {"huge": out.getvalue(), **PICTURES}
        corners, places, said = corner_hits(hits, pictures, PictureCache(decode, 10_000), most, spare=True)
        assert (len(corners[0]), places[0], len(said)) == (1, None, 1)


def test_the_same_bytes_are_decoded_once():
    kept = cache()
    assert kept.pixels(b"\x14") is kept.pixels(b"\x14")


def test_cached_pixels_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        cache().pixels(b"\x14")[0, 0, 0] = 1


def test_the_cache_lets_the_least_used_go_first():
    kept = cache(max_bytes=10 * 20 * 3 * 2)
    first, second = kept.pixels(b"\x14A"), kept.pixels(b"\x14B")
    assert kept.pixels(b"\x14A") is first
    kept.pixels(b"\x14C")
    assert kept.pixels(b"\x14A") is first
    assert kept.pixels(b"\x14B") is not second
    assert len(kept) == 2


def test_a_picture_larger_than_the_cache_is_not_kept():
    kept = cache(max_bytes=100)
    assert kept.pixels(b"\x14").shape == (10, 20, 3)
    assert len(kept) == 0


def test_a_context_of_more_pixels_than_memory_should_hold_is_refused():
    hits = [found(0, n, picture=str(n)) for n in range(4)]
    pictures = {str(n): bytes([20, n]) for n in range(4)}  # each of 200 pixels
    corner_hits(hits, pictures, cache(), most_pixels=800)
    with pytest.raises(InvalidInput, match="at most 799 pixels together") as caught:
        corner_hits(hits, pictures, cache(), most_pixels=799)
    assert caught.value.reason == "INVALID_CONTEXT"


def test_a_picture_that_many_hits_show_counts_once():
    hits = [found(0, n, picture=str(n)) for n in range(4)]
    corner_hits(hits, dict.fromkeys("0123", b"\x14"), cache(), most_pixels=200)


def test_pictures_whose_headers_claim_too_much_are_refused_before_any_is_decoded():
    out = io.BytesIO()
    Image.new("1", (9000, 9000)).save(out, "PNG")

    def decode(data: bytes) -> np.ndarray:
        raise AssertionError("was decoded")

    hits = [found(0, n, picture=str(n)) for n in range(9)]
    pictures = {str(n): out.getvalue() + bytes(n) for n in range(9)}
    with pytest.raises(InvalidInput, match="together"):
        corner_hits(hits, pictures, PictureCache(decode, 10_000))
