"""The published layout, its keys, its licences, and the commands that look at it: on a complete small model folder."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch", reason="the extra panelhue[colorflow] is not installed", exc_type=ImportError)
pytest.importorskip("diffusers", reason="the extra panelhue[colorflow] is not installed", exc_type=ImportError)

import torch
from safetensors.torch import load_file, save_file

from colorizer.backends.colorflow import files, keys, sources, states
from colorizer.backends.colorflow.files import ACCEPTED, PARTS, part_named, parts_of, require_acceptance
from colorizer.backends.colorflow.styles import STYLES
from colorizer.backends.colorflow.weights import Folder
from colorizer.weights_command import fetched, hub_names, weights_app
from panelhue.cli.group import loaded
from serving.errors import FailedState, InvalidInput, NotFound, Unavailable
from tests import tiny_colorflow


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_colorflow.make(tmp_path_factory.mktemp("tiny") / "models").models


@pytest.fixture
def models(whole: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(whole, tmp_path / "models"))


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test may reach the network or the user's folders."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")


def change(path: Path, **changes: Any) -> None:
    """Sets keys of a state-dict file; None removes one."""
    state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    state |= changes
    state = {key: value for key, value in state.items() if value is not None}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)


def networks_of(folder: Folder, style: str) -> list[torch.nn.Module]:
    """All networks of a style, once everything that it needs has been looked at."""
    folder.require([style], text=False)
    own = [part for part in parts_of([style], text=False) if part.kind not in ("plain", "lora", "unet", "transformer")]
    return [folder.backbone(STYLES[style]), *(folder.network(part) for part in own)]


def message_of(folder: Path, style: str) -> str:
    with pytest.raises(FailedState) as caught:
        networks_of(Folder.open(folder), style)
    assert caught.value.reason == "WEIGHTS_INVALID"
    return caught.value.message


def run(*arguments: str) -> Any:
    return CliRunner().invoke(weights_app, list(arguments))


# what is there


def test_a_whole_folder_has_nothing_wrong_and_every_style_loads(whole: Path) -> None:
    folder = Folder.open(whole)
    assert all(report.ok for report in folder.require(STYLES))
    for style in STYLES.values():
        for network in networks_of(folder, style.name):
            tensors = [*network.parameters(), *network.buffers()]
            assert not any(tensor.is_meta or tensor.requires_grad for tensor in tensors)
            assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
            assert not network.training
        assert folder.schedule(style.backbone)["num_train_timesteps"] == 1000


def test_the_small_folder_is_always_the_same(whole: Path, tmp_path: Path) -> None:
    again = tiny_colorflow.make(tmp_path / "again", ["gray"], text=False).models
    for name in ("GraySD/diffusion_pytorch_model.safetensors", "GraySD/unet_lora.bin", "GraySD/MultiResNetModel.bin"):
        one, two = states.tensors([whole / name]), states.tensors([again / name])
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_loading_takes_the_file_s_values_and_leaves_torch_s_random_numbers_alone(whole: Path) -> None:
    folder = Folder.open(whole)
    state = torch.random.get_rng_state()
    unet = folder.network(part_named("sd/unet"), dtype=torch.bfloat16)
    assert torch.equal(torch.random.get_rng_state(), state)
    stored = load_file(whole / "stable-diffusion-v1-5/unet/diffusion_pytorch_model.safetensors")
    assert all(torch.equal(value, stored[key].bfloat16()) for key, value in unet.state_dict().items())


def test_a_loaded_network_outlives_its_file(models: Path) -> None:
    path = models / "GraySD/MultiResNetModel.bin"
    network = Folder.open(models).network(part_named("gray/fusion"))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    path.write_bytes(b"\0" * path.stat().st_size)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("style", ["gray", "sketch"])
def test_a_merged_adapter_changes_the_backbone_as_one_beside_it_does(whole: Path, style: str) -> None:
    folder = Folder.open(whole)
    merged = folder.backbone(STYLES[style])
    beside = folder.backbone(STYLES[style], adapter="beside")
    bare = folder.backbone(STYLES[style], adapter="none")
    for name in ("attn1.to_q", "attn2.to_v"):
        key = next(key for key in bare.state_dict() if key.endswith(f"{name}.weight"))
        module = beside.get_submodule(key.removesuffix(".weight"))
        with torch.no_grad():
            width = bare.state_dict()[key].shape[1]
            x = torch.randn(3, width, generator=torch.Generator().manual_seed(0))
            outputs = [net.get_submodule(key.removesuffix(".weight"))(x) for net in (merged, beside, bare)]
        assert hasattr(module, "lora_A")
        assert torch.allclose(outputs[0], outputs[1], atol=1e-5)
        assert not torch.allclose(outputs[0], outputs[2], atol=1e-2)


def test_a_style_that_is_not_there_stops_itself_alone(models: Path) -> None:
    shutil.rmtree(models / "sketch")
    networks_of(Folder.open(models), "shading")
    message = message_of(models, "sketch")
    assert "3 of" in message
    for name in ("sketch/guider", "sketch/lora", "sketch/fusion"):
        assert name in message


# what is wrong


def test_every_missing_extra_and_misshaped_key_of_all_parts_is_in_one_error(models: Path) -> None:
    change(models / "GraySD/diffusion_pytorch_model.safetensors", **{"conv_in_condition.bias": None})
    change(models / "GraySD/unet_lora.bin", **{"something.else": torch.zeros(1)})
    change(models / "GraySD/MultiResNetModel.bin", **{"two_layer_resnets.0.block1.bn1.bias": torch.zeros(3)})
    (models / "ScreenStyle/ScreenVAE/latest_net_dec.pth").unlink()
    message = message_of(models, "gray")
    assert "gray/guider: 1 missing: conv_in_condition.bias" in message
    assert "gray/lora: 1 not known: something.else" in message
    assert "gray/fusion: 1 of another shape: two_layer_resnets.0.block1.bn1.bias must be 8, got 3" in message
    assert "tone/decoder" in message
    assert "latest_net_dec.pth" in message


def test_one_style_s_file_never_passes_for_another_part_s(models: Path) -> None:
    shutil.copy(models / "shading/transformer_lora.bin", models / "GraySD/MultiResNetModel.bin")
    message = message_of(models, "gray")
    assert "258 missing" in message
    assert "102 not known" in message


def test_long_lists_are_shortened_in_the_middle_and_the_command_prints_them_whole(models: Path) -> None:
    shutil.copy(models / "shading/transformer_lora.bin", models / "GraySD/MultiResNetModel.bin")
    wanted = list(states.entries([models / "sketch/MultiResNetModel.bin"]))
    message = message_of(models, "gray")
    assert f"… {len(wanted) - keys.SHOWN} more …" in message
    assert len(message) < 3000
    result = run("check", str(models), "--style", "gray", "--json", "--no-sums")
    assert result.exit_code == 1
    found = {part["name"]: part for part in json.loads(result.stdout)["parts"]}
    assert found["gray/fusion"]["missing_keys"] == wanted


def test_a_lora_without_default_in_its_keys_is_the_same_lora(models: Path) -> None:
    path = models / "GraySD/unet_lora.bin"
    before = Folder.open(models).backbone(STYLES["gray"]).state_dict()
    state = torch.load(path, weights_only=True)
    torch.save({f"unet.{key.replace('.default', '')}": value for key, value in state.items()}, path)
    after = Folder.open(models).backbone(STYLES["gray"]).state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("dropped", ["after_proj", "adapter_linear.1"])
def test_a_pixart_guider_may_lack_either_name_of_its_last_tap(models: Path, dropped: str) -> None:
    path, part = models / "sketch/diffusion_pytorch_model.bin", part_named("sketch/guider")
    before = Folder.open(models).network(part).state_dict()
    change(path, **{f"{dropped}.weight": None, f"{dropped}.bias": None})
    after = Folder.open(models).network(part).state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_pixart_guider_whose_two_names_differ_is_refused(models: Path) -> None:
    change(models / "sketch/diffusion_pytorch_model.bin", **{"after_proj.bias": torch.ones(24)})
    with pytest.raises(FailedState, match=r"after_proj\.bias must equal adapter_linear\.1\.bias"):
        Folder.open(models).network(part_named("sketch/guider"))


def test_a_vae_with_the_old_names_of_its_attention_loads(models: Path) -> None:
    path, part = models / "stable-diffusion-v1-5/vae/diffusion_pytorch_model.safetensors", part_named("sd/vae")
    before = Folder.open(models).network(part).state_dict()
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(path)
    for new, name in old.items():
        state = {key.replace(f".{new}.", f".{name}."): value for key, value in state.items()}
    assert any(".query." in key for key in state)
    save_file(state, path)
    after = Folder.open(models).network(part).state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_guider_with_five_condition_channels_is_built_as_its_config_says(models: Path) -> None:
    config = models / "GraySD/config.json"
    config.write_text(json.dumps(tiny_colorflow.GUIDER_SD | {"conditioning_channels": 5}))
    message = message_of(models, "gray")
    assert "conv_in_condition.weight must be 8x9x3x3, got 8x13x3x3" in message


def test_a_config_of_another_network_is_named_with_its_file(models: Path) -> None:
    (models / "GraySD/config.json").write_text("[]")
    (models / "stable-diffusion-v1-5/vae/config.json").unlink()
    message = message_of(models, "gray")
    assert f"{models / 'GraySD/config.json'} must be a JSON object" in message
    assert f"{models / 'stable-diffusion-v1-5/vae/config.json'} is missing" in message


def test_a_guider_of_another_width_than_its_backbone_is_refused(models: Path) -> None:
    config = models / "sketch/config.json"
    config.write_text(json.dumps(tiny_colorflow.GUIDER_PIXART | {"attention_head_dim": 24}))
    assert "attention_head_dim 24, and pixart/transformer has 12" in message_of(models, "sketch")


class Harm:
    """What a hostile pickle holds."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("how", ["plain pickle", "torch file"])
def test_a_pickle_with_code_in_it_is_refused_and_never_run(models: Path, tmp_path: Path, how: str) -> None:
    path, mark = models / "LE/erika.pth", tmp_path / "harm"
    hostile = {"a": Harm(mark)}
    if how == "torch file":
        torch.save(hostile, path)
    else:
        path.write_bytes(pickle.dumps(hostile, protocol=2))
    message = message_of(models, "sketch")
    assert "it is refused" in message
    assert not mark.exists()


@pytest.mark.parametrize(
    "name", ["LE/erika.pth", "sketch/transformer_lora.bin", "PixArt-XL-2-1024-MS/vae/*.safetensors"]
)
@pytest.mark.parametrize("left", [0, 300])
def test_a_truncated_file_is_named(models: Path, name: str, left: int) -> None:
    path = next(models.glob(name))
    path.write_bytes(path.read_bytes()[:left])
    assert str(path) in message_of(models, "sketch")


def test_files_older_than_torch_1_6_are_read(models: Path) -> None:
    path = models / "LE/erika.pth"
    state = torch.load(path, weights_only=True)
    torch.save(state, path, _use_new_zipfile_serialization=False)
    network = Folder.open(models).network(part_named("lines"))
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_shards_are_read_and_a_missing_shard_is_named(models: Path) -> None:
    folder = models / "PixArt-XL-2-1024-MS/transformer"
    whole = folder / "diffusion_pytorch_model.safetensors"
    state = load_file(whole)
    whole.unlink()
    names = sorted(state)
    shards = {f"diffusion_pytorch_model-0000{n}-of-00002.safetensors": names[n - 1 :: 2] for n in (1, 2)}
    for shard, held in shards.items():
        save_file({key: state[key] for key in held}, folder / shard)
    index = {"weight_map": {key: shard for shard, held in shards.items() for key in held}}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    networks_of(Folder.open(models), "sketch")
    (folder / next(iter(shards))).unlink()
    assert f"{folder / next(iter(shards))} is missing" in message_of(models, "sketch")


def test_an_index_cannot_name_files_outside_its_folder(models: Path) -> None:
    folder = models / "PixArt-XL-2-1024-MS/transformer"
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../vae/diffusion_pytorch_model.safetensors"}}))
    assert "names files outside its own folder" in message_of(models, "sketch")


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
