"""The learned embedder: what the contract suite does not ask of every embedder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from retrieval.embed import Embedder, EmbedderSettings, create_embedder
from retrieval.embed.patchnet.network import FACTS_FILE, MODEL_FILE, SHIPPED, SIDE, Network
from serving.errors import FailedState, InvalidInput
from tests.contract.test_embedders import draw_page

LENGTH_TOLERANCE = 1e-5  # of a unit vector in float32
BYTES = 8 * 2**20  # what the network's file may take


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return create_embedder("patchnet")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A copy of the shipped weights that a test may damage."""
    for name in (MODEL_FILE, FACTS_FILE):
        shutil.copy(SHIPPED / name, tmp_path / name)
    return tmp_path


def test_a_vector_does_not_depend_on_its_batch_by_a_bit(embedder: Embedder):
    pages = [draw_page(n) for n in range(4)]
    alone = np.concatenate([embedder.embed_references([page]) for page in pages])
    np.testing.assert_array_equal(embedder.embed_references(pages), alone)


def test_a_vector_does_not_depend_on_its_neighbours_by_a_bit(embedder: Embedder):
    forth = embedder.embed([draw_page(n) for n in range(4)])
    back = embedder.embed([draw_page(n) for n in reversed(range(4))])
    np.testing.assert_array_equal(forth, back[::-1])


def test_calls_from_several_threads_give_the_same_bits(embedder: Embedder):
    pages = [draw_page(n) for n in range(8)]
    alone = [embedder.embed_pages([page]) for page in pages]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda page: embedder.embed_pages([page]), pages))
    np.testing.assert_array_equal(np.stack(together), np.stack(alone))


def test_it_imports_no_torch():
    program = (
        "import sys, numpy as np\n"
        "from retrieval.embed import create_embedder\n"
        "create_embedder('patchnet').embed([np.zeros((40, 40, 3), np.uint8)])\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-W", "error", "-c", program], check=False).returncode == 0


def test_its_weights_are_part_of_the_space(embedder: Embedder):
    assert embedder.space.weights_sha256 == json.loads((SHIPPED / FACTS_FILE).read_text())["sha256"]


def test_the_network_is_small():
    assert (SHIPPED / MODEL_FILE).stat().st_size < BYTES


@pytest.mark.parametrize("name", [MODEL_FILE, FACTS_FILE])
def test_a_missing_file_of_the_weights_is_named(weights: Path, name: str):
    (weights / name).unlink()
    with pytest.raises(FailedState, match=name) as raised:
        create_embedder("patchnet", EmbedderSettings(weights=weights))
    assert raised.value.reason == "WEIGHTS_INVALID"


def test_a_changed_byte_of_the_network_is_refused(weights: Path):
    damaged = bytearray((weights / MODEL_FILE).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (weights / MODEL_FILE).write_bytes(damaged)
    with pytest.raises(FailedState, match=r"expected sha256 [0-9a-f]{64}, got [0-9a-f]{64}"):
        create_embedder("patchnet", EmbedderSettings(weights=weights))


def test_a_file_that_is_no_network_is_refused(weights: Path):
    import hashlib

    (weights / MODEL_FILE).write_bytes(b"no network")
    facts = json.loads((weights / FACTS_FILE).read_text()) | {"sha256": hashlib.sha256(b"no network").hexdigest()}
    (weights / FACTS_FILE).write_text(json.dumps(facts))
    with pytest.raises(FailedState, match=MODEL_FILE):
        create_embedder("patchnet", EmbedderSettings(weights=weights))


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_facts_that_say_something_else_are_refused(weights: Path, text: str):
    (weights / FACTS_FILE).write_text(text)
    with pytest.raises(FailedState, match="expected a JSON object with sha256"):
        Network(weights)


@pytest.mark.parametrize(
    "given",
    [EmbedderSettings(model="ViT-B-16"), EmbedderSettings(pretrained="openai"), EmbedderSettings(config=Path("c"))],
)
def test_settings_of_another_embedder_are_refused(given: EmbedderSettings):
    with pytest.raises(InvalidInput, match="takes no"):
        create_embedder("patchnet", given)


def test_closed_it_refuses_to_embed():
    made = create_embedder("patchnet")
    made.close()
    with pytest.raises(FailedState, match="closed"):
        made.embed_pages([draw_page(1)])


def test_the_shipped_network_gives_unit_rows():
    rows = Network(SHIPPED)(np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE), np.uint8))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=LENGTH_TOLERANCE)


def test_line_art_is_compared_by_its_strokes_alone(embedder: Embedder):
    page = np.full((200, 160, 3), 255, np.uint8)
    page[40:42, 20:140] = page[30:170, 80:82] = 0
    structure = create_embedder("structure").embed([page])
    np.testing.assert_allclose(embedder.embed([page])[:, : structure.shape[1]], structure, atol=LENGTH_TOLERANCE)
