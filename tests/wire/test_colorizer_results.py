"""What a page comes back as: its size, luma and type, what reached the back-end, and what was made of its context."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from panelhue.colorizer.v1 import colorizer_pb2 as pb
from panelhue.colorizer.v1 import colorizer_pb2_grpc as pb_grpc
from panelhue.common.v1 import common_pb2 as common
from tests.wire.colorizer_live import Live, connected, stub_of, wait_until
from tests.wire.colorizer_talk import colorize, colour_picture, decoded, encoded, grey_page, hit, page
from tests.wire.conftest import RunningServer

Options = pb.ColorizeOptions


@pytest.fixture(scope="module")
def stub(colorizer_server: RunningServer) -> Iterator[pb_grpc.ColorizerServiceStub]:
    with stub_of(colorizer_server) as made:
        yield made


# --- pages that succeed -----------------------------------------------------------------------------------------------


def test_a_page_comes_back_with_its_size_in_order_of_messages(stub):
    answer = colorize(stub, page("p", grey_page(60, 80))).pages["p"]
    assert [(a.width, a.height, a.queue_position) for a in answer.accepted] == [(60, 80, 0)]
    assert answer.progress == [(1, 2), (2, 2)]
    assert answer.header.media_type == "image/png"
    assert (answer.header.width, answer.header.height) == (60, 80)
    assert decoded(answer.data).shape == (80, 60, 3)
    assert (answer.result.backend, answer.result.backend_version, answer.result.weights_licence) == (
        "probe",
        "7",
        "CC0-1.0",
    )


def test_luma_is_kept_to_the_bit_by_default(stub):
    data = grey_page(61, 83)
    answer = colorize(stub, page("p", data)).pages["p"]
    result = decoded(answer.data)
    assert np.array_equal(np.array(Image.fromarray(result).convert("L")), np.array(Image.open(io.BytesIO(data))))
    assert np.ptp(result.astype(int), axis=2).max() > 50


def test_the_backends_own_luma_comes_when_asked_for(stub):
    answer = colorize(stub, page("p"), seed=9, luma=Options.LUMA_BACKEND).pages["p"]
    assert (decoded(answer.data) == (9, 40, 200)).all()


def test_a_pages_seed_overrides_the_streams(stub):
    answers = colorize(stub, page("a"), page("b", seed=0), seed=2**64 - 1, luma=Options.LUMA_BACKEND)
    assert [answers.pages[key].result.seed for key in "ab"] == [2**64 - 1, 0]
    assert decoded(answers.pages["b"].data)[0, 0, 0] == 0


def test_a_hint_reaches_the_backend(stub):
    hints = [pb.Hint(x=59.5, y=79.5, rgb=0x123456)]
    answer = colorize(stub, page("p", hints=hints), luma=Options.LUMA_BACKEND).pages["p"]
    assert (decoded(answer.data) == (0x12, 0x34, 0x56)).all()


def test_the_palette_reaches_the_backend(stub):
    palette = [common.Swatch(name="hair", rgb=0xAABBCC)]
    answer = colorize(stub, page("p"), palette=palette, luma=Options.LUMA_BACKEND).pages["p"]
    assert (decoded(answer.data) == (0xAA, 0xBB, 0xCC)).all()


def test_steps_are_as_asked_for(stub):
    assert colorize(stub, page("p"), steps=5).pages["p"].progress == [(n, 5) for n in range(1, 6)]


def test_previews_come_after_every_so_many_steps_at_their_size(stub):
    answer = colorize(stub, page("p", grey_page(200, 400)), steps=5, preview_every=2, preview_side=100).pages["p"]
    assert [(header.width, header.height) for header, _ in answer.previews] == [(50, 100)] * 2
    for (header, data), value in zip(answer.previews, (20, 40), strict=True):
        with Image.open(io.BytesIO(data)) as image:
            assert (image.size, Image.MIME[image.format]) == ((50, 100), header.media_type)
            assert np.abs(np.asarray(image).astype(int) - value).max() <= 3


def test_no_previews_come_unasked(stub):
    assert not colorize(stub, page("p"), steps=5).pages["p"].previews


@pytest.mark.parametrize(("media_type", "form"), [("image/jpeg", "JPEG"), ("image/webp", "WEBP"), ("image/png", "PNG")])
def test_the_output_has_the_type_asked_for(stub, media_type, form):
    answer = colorize(stub, page("p"), output_media_type=media_type).pages["p"]
    assert answer.header.media_type == media_type
    with Image.open(io.BytesIO(answer.data)) as image:
        assert (image.format, image.size) == (form, (60, 80))


def test_jpeg_quality_makes_a_difference(stub):
    sizes = [
        len(colorize(stub, page("p"), output_media_type="image/jpeg", jpeg_quality=quality).pages["p"].data)
        for quality in (20, 0, 100)
    ]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 3


def test_chroma_only_is_a_layer_at_full_value_with_alpha(stub):
    data = encoded(np.where(np.arange(80)[:, None] < 40, 255, np.full((1, 60), 120)).astype(np.uint8))
    answer = colorize(stub, page("p", data), chroma_only=True).pages["p"]
    layer = decoded(answer.data, "RGBA")
    assert (layer[:40] == (255, 255, 255, 0)).all()  # paper is neutral
    assert (layer[40:, :, 3] == 255).all()
    assert (layer[40:, :, :3].max(axis=2) == 255).all()


def test_timings_are_told(stub):
    answer = colorize(stub, page("p"), parameters={"seconds": "0.02"}).pages["p"]
    timing = answer.result.timing
    assert timing.compute_ns >= 40_000_000
    assert min(timing.decode_ns, timing.encode_ns, timing.queue_ns) > 0
    assert timing.total_ns >= timing.compute_ns + timing.decode_ns + timing.encode_ns


def test_confidence_is_the_mean(stub):
    assert colorize(stub, page("p")).pages["p"].result.confidence == pytest.approx(0.2)


def test_confidence_is_unset_when_the_backend_does_not_tell(stub):
    assert not colorize(stub, page("p"), backend="tint").pages["p"].result.HasField("confidence")


def test_pages_end_in_the_order_in_which_they_came(start_colorizer):
    server = start_colorizer(workers=2, readahead=4)
    broken = page("b", b"nonsense")  # fails long before the first page is done
    answers = colorize(connected(server), page("a"), broken, page("c"), parameters={"seconds": "0.1"})
    assert answers.ended == ["a", "b", "c"]
    assert answers.pages["b"].reason == "IMAGE_UNREADABLE"


def test_a_key_may_be_used_again_once_its_page_is_answered(stub):
    live = Live(stub)
    for count in (1, 2):
        live.answers.pages.clear()
        live.send(page("p"))
        wait_until(lambda count=count: len(live.answers.ended) == count, "an answer")
    assert live.finish().ended == ["p", "p"]


def test_a_stream_without_pages_ends_well(stub):
    assert not colorize(stub).pages


def test_exemplar_colours_a_page_through_the_server(stub):
    reference = colour_picture((200, 60, 30), 96, 96)
    data = encoded(np.array(Image.fromarray(reference).convert("L")))
    hits = [hit(corner, picture_key="r") for corner in (1, 2, 3, 4)]
    answer = colorize(stub, page("p", data, hits, {"r": encoded(reference)}), backend="exemplar").pages["p"]
    assert not answer.error, answer.error
    result = decoded(answer.data)
    assert np.array_equal(
        np.array(Image.fromarray(result).convert("L")), np.array(Image.fromarray(reference).convert("L"))
    )


# --- contexts ---------------------------------------------------------------------------------------------------------


def context_page(hits: list[common.Hit], file: bytes | None = None) -> Iterator[pb.ColorizePagesRequest]:
    return page("p", hits=hits, pictures={"r": file or encoded(colour_picture())})


def test_the_callers_context_gives_the_colour(stub):
    box = common.Box(x0=0, y0=0, x1=60, y1=40)
    answers = colorize(stub, context_page([hit(picture_box=box)]), backend="tint", luma=Options.LUMA_BACKEND)
    brightest = decoded(answers.pages["p"].data).reshape(-1, 3).max(axis=0)
    assert brightest.tolist() == [255, 102, 26]  # (200, 80, 20) at full value


def test_the_result_names_its_references_by_rank(stub):
    hits = [
        hit(2, 1, score=0.5),
        hit(2, 0, score=0.7, provenance=common.Provenance(origin=common.ORIGIN_GENERATED, depth=3), tags=["cover"]),
        hit(1, 0, reference_id="cd" * 32, chapter=10500),
    ]
    result = colorize(stub, context_page(hits)).pages["p"].result
    assert [(h.corner, h.rank, h.used) for h in result.references] == [(1, 0, True), (2, 0, True), (2, 1, False)]
    assert result.references[0].chapter == 10500
    assert list(result.references[1].tags) == ["cover"]
    assert not any(h.picture_key or h.HasField("picture_box") for h in result.references)
    assert result.generation == 41


@pytest.mark.parametrize(("rank", "depth"), [(0, 4), (1, 1)])
def test_depth_counts_used_references_alone(stub, rank, depth):
    provenance = common.Provenance(origin=common.ORIGIN_GENERATED, depth=3)
    hits = [hit(1, rank, provenance=provenance), hit(1, 1 - rank, reference_id="cd" * 32)]
    assert colorize(stub, context_page(hits)).pages["p"].result.depth == depth


def test_a_page_without_references_has_depth_one(stub):
    assert colorize(stub, page("p")).pages["p"].result.depth == 1


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (hit(corner=0), "corner"),
        (hit(score=float("nan")), "score"),
        (hit(picture_key="other"), "'other'"),
        (hit(picture_key=""), "picture_key"),
        (hit(reference_id=""), "reference_id"),
        (hit(picture_box=common.Box(x0=0, y0=0, x1=61, y1=10)), "60 x 80"),
        (hit(picture_box=common.Box(x0=9, y0=0, x1=9, y1=10)), "x0 < x1"),
        (hit(box=common.Box(x0=0, y0=0, x1=5, y1=5)), "both or neither"),
        (hit(box=common.Box(x0=0, y0=0, x1=5, y1=5), reference_width=4, reference_height=9), "4 x 9"),
    ],
)
def test_a_context_that_does_not_hold_together_fails_its_page(stub, bad, says):
    answer = colorize(stub, context_page([bad])).pages["p"]
    assert answer.reason == "INVALID_CONTEXT"
    assert says in answer.error.message


def test_one_reference_of_two_sizes_fails_its_page(stub):
    box = common.Box(x0=0, y0=0, x1=5, y1=5)
    hits = [hit(1, n, box=box, reference_width=50 + n, reference_height=50) for n in (0, 1)]
    assert colorize(stub, context_page(hits)).pages["p"].reason == "INVALID_CONTEXT"


def test_a_context_picture_that_is_no_picture_fails_its_page(stub):
    answer = colorize(stub, context_page([hit()], b"nonsense")).pages["p"]
    assert answer.reason == "INVALID_CONTEXT"
    assert "'r'" in answer.error.message


def test_too_many_hits_fail_their_page(stub):
    answer = colorize(stub, context_page([hit(1, n) for n in range(257)])).pages["p"]
    assert answer.reason == "INVALID_CONTEXT"
    assert "256" in answer.error.message


# --- pages in colour --------------------------------------------------------------------------------------------------


def test_a_page_in_colour_comes_back_byte_for_byte(stub):
    data = encoded(colour_picture())
    answer = colorize(stub, page("p", data, [hit()], {"r": data})).pages["p"]
    assert answer.data == data
    assert answer.result.already_colour
    assert (answer.result.depth, len(answer.result.references)) == (0, 0)


def test_a_page_in_colour_is_encoded_anew_for_another_type(stub):
    answer = colorize(stub, page("p", encoded(colour_picture())), output_media_type="image/webp").pages["p"]
    assert answer.result.already_colour
    assert np.array_equal(decoded(answer.data), colour_picture())


def test_a_page_in_colour_is_recoloured_when_asked_for(stub):
    fields = {"colour_pages": Options.COLOUR_PAGES_RECOLOUR, "luma": Options.LUMA_BACKEND, "seed": 3}
    answer = colorize(stub, page("p", encoded(colour_picture())), **fields).pages["p"]
    assert not answer.result.already_colour
    assert (decoded(answer.data) == (3, 40, 200)).all()


def test_a_page_in_colour_is_rejected_when_asked_for(stub):
    answers = colorize(stub, page("p", encoded(colour_picture())), page("q"), colour_pages=Options.COLOUR_PAGES_REJECT)
    assert answers.pages["p"].reason == "PAGE_IN_COLOUR"
    assert answers.pages["q"].result
