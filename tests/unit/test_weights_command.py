"""Where models come from, under which licences, and the commands that check and fetch them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra panelhue[colorflow] is not installed", exc_type=ImportError)
pytest.importorskip("diffusers", reason="the extra panelhue[colorflow] is not installed", exc_type=ImportError)

import torch

from colorizer.backends.colorflow import files, sources
from colorizer.backends.colorflow.files import ACCEPTED, PARTS, part_named, parts_of, require_acceptance
from colorizer.backends.colorflow.styles import STYLES
from colorizer.backends.colorflow.weights import Folder
from colorizer.weights_command import fetched, hub_names
from panelhue.cli.group import loaded
from serving.errors import FailedState, InvalidInput, NotFound, Unavailable
from tests import tiny_colorflow
from tests.unit.weight_folders import change, message_of, networks_of, off_the_hub, run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_colorflow.make(tmp_path_factory.mktemp("tiny") / "models").models


@pytest.fixture
def models(whole: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(whole, tmp_path / "models"))


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    off_the_hub(monkeypatch, tmp_path)


# where models come from


def test_a_base_model_is_the_folder_that_is_named(models: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    (models / "stable-diffusion-v1-5").rename(moved)
    networks_of(Folder.open(models, bases={"sd": str(moved)}), "gray")
    message = message_of(models, "gray")
    assert "stable-diffusion-v1-5/stable-diffusion-v1-5 is no folder and not in the local hub cache" in message
    assert "HF_HUB_OFFLINE is set" in message


def test_no_model_folder_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no model folder"):
        Folder.open(tmp_path / "none")


def test_a_hub_name_is_looked_up_in_the_cache_and_never_downloaded_while_offline() -> None:
    with pytest.raises(NotFound) as caught:
        Folder.open("somebody/models", download=True)
    assert caught.value.reason == "MODEL_NOT_CACHED"


def test_a_cached_hub_model_is_used(whole: Path, tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--somebody--models"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text("0" * 40)
    shutil.copytree(whole, repository / "snapshots" / ("0" * 40))
    Folder.open("somebody/models").require(STYLES)


def test_sums_are_remembered_until_a_file_changes_and_nothing_is_written_beside_it(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(models.rglob("*"))
    folder, cache = Folder.open(models), tmp_path / "sums"
    first = sources.sums_of(folder.homes, ["gray"], cache)
    assert first["GraySD/unet_lora.bin"] == sources.sha256(models / "GraySD/unet_lora.bin")
    assert "sd/unet/diffusion_pytorch_model.safetensors" in first
    read: list[Path] = []
    real = sources.sha256

    def counted(path: Path) -> str:
        read.append(path)
        return real(path)

    monkeypatch.setattr(sources, "sha256", counted)
    assert sources.sums_of(folder.homes, ["gray"], cache) == first
    assert read == []
    change(models / "GraySD/unet_lora.bin", more=torch.zeros(1))
    assert sources.sums_of(folder.homes, ["gray"], cache)["GraySD/unet_lora.bin"] != first["GraySD/unet_lora.bin"]
    assert read == [models / "GraySD/unet_lora.bin"]
    assert sorted(models.rglob("*")) == before


# licences


@pytest.mark.parametrize("given", ["", "yes", "commercial", "Non-Commercial"])
def test_without_the_licence_accepted_nothing_is_loaded_and_the_sentence_says_why(given: str) -> None:
    with pytest.raises(FailedState) as caught:
        require_acceptance(given)
    assert caught.value.reason == "LICENCE_NOT_ACCEPTED"
    assert "non-commercial use only" in caught.value.message
    assert 'accept_licence = "non-commercial"' in caught.value.message


def test_the_licence_is_accepted_by_naming_the_use() -> None:
    require_acceptance(ACCEPTED)


def test_every_part_has_a_licence_and_a_name_of_its_own() -> None:
    assert all(part.licence in files.LICENCES for part in PARTS)
    assert len({part.name for part in PARTS}) == len(PARTS)


def test_a_style_that_does_not_exist_is_named() -> None:
    with pytest.raises(InvalidInput, match="styles are gray, sketch, shading; got colour"):
        parts_of(["colour"])


# the commands


def test_check_prints_a_row_per_part_and_exits_with_0_when_all_is_well(whole: Path) -> None:
    result = run("check", str(whole))
    assert result.exit_code == 0, result.output
    assert "styles that can run: gray, sketch, shading" in result.stdout
    for part in parts_of(STYLES):
        assert part.name in result.stdout
    assert sources.sha256(whole / "LE/erika.pth")[:12] in result.stdout
    assert "look it up (MangaLineExtraction)" in result.stdout


def test_check_says_which_styles_can_run_and_exits_with_1_otherwise(models: Path) -> None:
    shutil.rmtree(models / "GraySD")
    result = run("check", str(models), "--no-sums")
    assert result.exit_code == 1
    assert "styles that can run: sketch, shading; that cannot: gray" in result.stdout
    assert run("check", str(models), "--style", "sketch", "--no-sums").exit_code == 0


def test_a_style_runs_without_text_encoders_if_prompt_embeddings_are_given(models: Path) -> None:
    for name in ("text_encoder", "tokenizer"):
        shutil.rmtree(models / "PixArt-XL-2-1024-MS" / name)
    result = run("check", str(models), "--style", "sketch", "--no-sums", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["styles"] == {"sketch": True}
    assert run("check", str(models), "--style", "sketch", "--no-sums", "--no-text").exit_code == 0


def test_check_s_json_has_types_sums_and_licences(whole: Path) -> None:
    result = run("check", str(whole), "--json")
    part = {part["name"]: part for part in json.loads(result.stdout)["parts"]}["gray/guider"]
    path = whole / "GraySD/diffusion_pytorch_model.safetensors"
    assert part["files"] == [{"path": str(path), "bytes": path.stat().st_size, "sha256": sources.sha256(path)}]
    assert (part["ok"], part["keys_checked"], part["dtypes"]) == (True, True, ["float32"])
    assert "non-commercial" in part["licence"]["terms"]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["check", "/no/such/folder"], 4, "there is no model folder"),
        (["check", ".", "--style", "colour"], 2, "styles are gray, sketch, shading"),
        (["check", ".", "--base", "vae=x"], 2, 'a base is written "sd=SOURCE"'),
        (["fetch", "x"], 4, "--accept-licence"),
        (["fetch", "x", "--accept-licence"], 3, "cannot be fetched while HF_HUB_OFFLINE is set"),
    ],
)
def test_a_command_that_cannot_go_on_says_why(
    arguments: list[str], code: int, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == code
    assert sentence in result.stderr
    assert not (tmp_path / "x").exists()


def test_fetch_says_that_the_hub_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A real attempt, at a port of this machine on which nobody listens."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    result = run("fetch", str(tmp_path / "x"), "--accept-licence", "--style", "gray")
    assert result.exit_code == 3
    assert "TencentARC/ColorFlow could not be fetched" in result.stderr
    assert "check the network" in result.stderr


class FolderSource:
    """A stand-in for the hub: repositories are local folders, and a download is a copy."""

    def __init__(self, repositories: Mapping[str, Path]) -> None:
        self._repositories = repositories
        self.asked: list[str] = []

    def sizes(self, name: str) -> Mapping[str, int]:
        self.asked.append(name)
        top = self._repositories[name]
        return {str(path.relative_to(top)): path.stat().st_size for path in top.rglob("*") if path.is_file()}

    def download(self, name: str, files: Sequence[str], folder: Path | None) -> Path:
        assert folder is not None
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self._repositories[name] / file, folder / file)
        return folder


def test_what_is_fetched_can_be_checked_and_loaded(models: Path, tmp_path: Path) -> None:
    bases = {name: models / name for name in ("stable-diffusion-v1-5", "PixArt-XL-2-1024-MS")}
    (bases["stable-diffusion-v1-5"] / "unet/diffusion_pytorch_model.bin").write_bytes(b"another form")
    (models / "README.md").write_text("not wanted")
    source = FolderSource(
        {"a/models": models, "a/sd": bases["stable-diffusion-v1-5"], "a/pix": bases["PixArt-XL-2-1024-MS"]}
    )
    names = hub_names("a/models", ["sd=a/sd", "pixart=a/pix"])
    target = tmp_path / "fetched"
    fetched(source, target, parts_of(STYLES), names, accepted=True)
    shutil.copy(models / files.SETTINGS_FILE, target)  # no published file; the small networks need it
    Folder.open(target).require(STYLES)
    assert not (target / "README.md").exists()
    assert not (target / "stable-diffusion-v1-5/unet/diffusion_pytorch_model.bin").exists()


def test_nobody_is_asked_before_the_licence_is_accepted(tmp_path: Path) -> None:
    source = FolderSource({})
    with pytest.raises(FailedState, match="--accept-licence"):
        fetched(source, tmp_path, parts_of(["gray"]), hub_names("", None), accepted=False)
    assert source.asked == []


def test_a_repository_that_lacks_a_part_is_refused_before_anything_is_fetched(models: Path, tmp_path: Path) -> None:
    (models / "LE/erika.pth").unlink()
    source = FolderSource({"a/models": models})
    parts = [part for part in parts_of(["sketch"]) if part.home == "model"]
    with pytest.raises(NotFound, match=r"lacks lines: LE/erika\.pth"):
        fetched(source, tmp_path / "x", parts, hub_names("a/models", None), accepted=True)
    assert not (tmp_path / "x").exists()


def test_offline_is_an_error_of_the_hub_s_state_and_not_of_the_request() -> None:
    with pytest.raises(Unavailable) as caught:
        sources.Hub().sizes("somebody/models")
    assert caught.value.reason == "HUB_OFFLINE"


def test_the_shards_of_an_index_are_chosen_with_it() -> None:
    listing = {
        "text_encoder/config.json": 1,
        "text_encoder/model.safetensors.index.json": 2,
        "text_encoder/model-00001-of-00002.safetensors": 3,
        "text_encoder/model-00002-of-00002.safetensors": 4,
        "text_encoder/pytorch_model.bin.index.json": 5,
        "text_encoder/pytorch_model-00001-of-00001.bin": 6,
    }
    chosen = sources.chosen([part_named("pixart/text_encoder")], listing)
    assert sum(chosen.values()) == 1 + 2 + 3 + 4


def test_a_group_of_commands_is_mounted_under_one_name() -> None:
    point = EntryPoint("weights", "colorizer.weights_command:weights_app", "panelhue.commands")
    command = loaded(point)
    assert command.name == "weights"
    assert sorted(command.commands) == ["check", "fetch"]
