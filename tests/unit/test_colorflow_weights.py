"""The published layout and its keys, on a complete small model folder: what loads, and what is said of the rest."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the extra panelhue[colorflow] is not installed", exc_type=ImportError)
pytest.importorskip("diffusers", reason="the extra panelhue[colorflow] is not installed", exc_type=ImportError)

import torch
from safetensors.torch import load_file, save_file

from colorizer.backends.colorflow import keys, states
from colorizer.backends.colorflow.files import part_named
from colorizer.backends.colorflow.styles import STYLES
from colorizer.backends.colorflow.weights import Folder
from serving.errors import FailedState
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
