"""Embedders by name, variants included, and what the workers make of pictures and texts."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from retrieval.config import RetrievalSettings
from retrieval.digest import digest_of
from retrieval.embed import EmbedderSettings
from retrieval.embedding import Embedding, forms_of
from retrieval.types import Series
from retrieval.work import Form, Work, WorkBatch, WorkConfig, WorkDone, build
from serving.errors import FailedState, InvalidInput, NotFound
from serving.images import ImageLimits
from serving.workers import WorkerContext
from tests.contract.test_embedders import draw_page

FIT = {"embedder": "structure", "crop_recipe": "fit:128x160"}


class Free(WorkerContext):
    """A worker's context that is never cancelled."""

    def __init__(self) -> None:
        pass

    def check(self) -> None:
        pass


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def settings(tmp_path: Path, **fields: object) -> RetrievalSettings:
    return RetrievalSettings(data_dir=tmp_path, **fields)


@asynccontextmanager
async def embedding(tmp_path: Path, **fields: object) -> AsyncIterator[Embedding]:
    it = Embedding(settings(tmp_path, **fields))
    try:
        yield it
    finally:
        await it.close()


async def test_one_server_holds_two_spaces_of_one_embedder(tmp_path: Path) -> None:
    async with embedding(tmp_path, embedder_variants={"structure-fit": FIT}) as it:
        plain, fit = await it.space("structure"), await it.space("structure-fit")
        assert it.names == ("open_clip", "patchnet", "structure", "structure-fit")
        assert (plain.crop_recipe, fit.crop_recipe) == ("native", "fit:128x160")
        series = Series("s", "s", "structure", plain)
        data = png(draw_page(1))
        here, _ = await it.reference(series, data)
        there, _ = await it.reference(series, data, embedder="structure-fit")
        assert (here.space_id, there.space_id) == (plain.id, fit.id)
        assert here.digest == digest_of(draw_page(1), here.boxes)
        with pytest.raises(FailedState) as caught:
            await it.text(series, "a castle")
        assert caught.value.reason == "EMBEDDER_HAS_NO_TEXT"
        with pytest.raises(NotFound, match="open_clip, patchnet, structure, structure-fit, got 'other'"):
            await it.space("other")


async def test_a_stored_picture_is_embedded_without_a_look_at_its_colour(tmp_path: Path) -> None:
    grey = np.repeat(draw_page(1)[..., :1], 3, axis=2)
    async with embedding(tmp_path) as it:
        series = Series("s", "s", "structure", await it.space("structure"))
        with pytest.raises(InvalidInput) as caught:
            await it.reference(series, png(grey))
        assert caught.value.reason == "IMAGE_NOT_COLOUR"
        prepared, _ = await it.reference(series, png(grey), stored=True)
        assert len(prepared.vectors) == 5


def test_a_batch_gives_what_each_picture_gives_alone() -> None:
    handle = build(WorkConfig({"e": Form("structure", EmbedderSettings())}, ImageLimits()))
    works = [
        Work("reference", "e", png(draw_page(1))),
        Work("reference", "e", b"no picture"),
        Work("reference", "e", png(draw_page(2)[:12])),
        Work("reference", "e", png(draw_page(2))),
    ]
    together = handle(WorkBatch(tuple(works)), Free())
    for work, found in zip(works, together, strict=True):
        (alone,) = handle(WorkBatch((work,)), Free())
        assert type(found) is type(alone)
        if isinstance(alone, WorkDone):
            np.testing.assert_array_equal(found.prepared.vectors, alone.prepared.vectors)
            assert found.prepared.digest == alone.prepared.digest
        else:
            assert (found.reason, found.message) == (alone.reason, alone.message)
    assert [isinstance(one, WorkDone) for one in together] == [True, False, False, True]


def test_a_variant_takes_nothing_that_decides_its_space_from_the_server(tmp_path: Path) -> None:
    clip = {"embedder": "open_clip", "clip_model": "ViT-L-14", "clip_pretrained": "openai"}
    given = settings(
        tmp_path, crop_recipe="fit:64x64", clip_weights=tmp_path, clip_device="cpu", embedder_variants={"large": clip}
    )
    forms = forms_of(given)
    assert forms["open_clip"].settings.weights == tmp_path
    assert forms["large"] == Form("open_clip", EmbedderSettings(model="ViT-L-14", pretrained="openai", device="cpu"))


def test_variants_can_be_given_as_text_or_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '{"fit": {"embedder": "structure", "crop_recipe": "fit:64x64"}}'
    as_text = settings(tmp_path, embedder_variants=text, embedder="fit")
    monkeypatch.setenv("PANELHUE_RETRIEVAL_EMBEDDER_VARIANTS", text)
    assert settings(tmp_path, embedder="fit") == as_text
    assert as_text.embedder_variants["fit"].crop_recipe == "fit:64x64"


@pytest.mark.parametrize(
    ("variants", "text"),
    [
        ({"a": {**FIT, "crop": "native"}}, "crop\n  Extra inputs are not permitted"),
        ({"a": {"embedder": "magic"}}, "must be one of open_clip, patchnet, structure, got 'magic'"),
        ({"a": {"embedder": "structure", "crop_recipe": "fit"}}, "a crop recipe is 'native' or 'fit:WxH'"),
        ({"a": {"embedder": "structure", "clip_model": "ViT-B-32"}}, "has no use for clip_model"),
        ({"A b": FIT}, "a name is 1 to 64 of a-z, 0-9, '-', '_' and '.', got 'A b'"),
        ({"structure": FIT}, "a variant needs a name of its own, got 'structure'"),
        ({"vectors": FIT}, "a variant needs a name of its own, got 'vectors'"),
        ("no json", "Expecting value"),
    ],
)
def test_a_wrong_variant_is_refused_with_the_reason(tmp_path: Path, variants: object, text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(tmp_path, embedder_variants=variants)
    assert text in str(caught.value)


def test_a_default_embedder_that_is_no_variant_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="must be one of fit, open_clip, patchnet, structure, vectors, got 'fot'"):
        settings(tmp_path, embedder="fot", embedder_variants={"fit": FIT})


async def test_a_worker_makes_the_digest_of_patches_that_are_given(tmp_path: Path) -> None:
    boxes = np.asarray([[0, 0, 40, 50], [10, 10, 60, 70]], np.int32)
    async with embedding(tmp_path) as it:
        assert await it.digest(png(draw_page(1)), boxes) == digest_of(draw_page(1), boxes)
        with pytest.raises(InvalidInput) as caught:
            await it.digest(b"no picture", boxes)
        assert caught.value.reason == "IMAGE_UNREADABLE"
