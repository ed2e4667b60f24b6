"""Reading, checking, injecting and merging adapters, on a network of three layers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from colorizer.backends.colorflow import lora
from serving.errors import FailedState

RANK, ALPHA = 2, 6
SUFFIXES = ("proj", "linear")
Tensors = dict[str, Tensor]


class Net(nn.Module):
    """A strided convolution, an adapted linear layer, and one whose name only looks adapted."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.ModuleDict({"proj": nn.Conv2d(3, 6, 2, stride=2)})
        self.linear = nn.Linear(6, 5)
        self.other_linear = nn.Linear(5, 4)

    def forward(self, picture: Tensor) -> Tensor:
        tokens = self.embed["proj"](picture).flatten(2).transpose(1, 2)
        result: Tensor = self.other_linear(self.linear(tokens))
        return result


@pytest.fixture
def net() -> Net:
    torch.manual_seed(1)
    return Net().eval().requires_grad_(False)


@pytest.fixture
def tensors(net: Net) -> Tensors:
    torch.manual_seed(2)
    return {key: torch.randn(shape) for key, shape in lora.expected_keys(net, SUFFIXES, RANK).items()}


@pytest.fixture
def picture() -> Tensor:
    torch.manual_seed(3)
    return torch.randn(2, 3, 4, 6)


def test_the_suffix_rule_takes_whole_parts_of_names(net: Net) -> None:
    assert lora.expected_keys(net, SUFFIXES, RANK) == {
        "embed.proj.lora_A.default.weight": (2, 3, 2, 2),
        "embed.proj.lora_B.default.weight": (6, 2, 1, 1),
        "linear.lora_A.default.weight": (2, 6),
        "linear.lora_B.default.weight": (5, 2),
    }


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
@pytest.mark.parametrize(
    "written",
    [
        lambda key: key,
        lambda key: key.replace(".default", ""),
        lambda key: f"base_model.model.{key}",
        lambda key: f"transformer.{key.replace('.default', '')}",
        lambda key: f"base_model.model.unet.{key}",
    ],
)
def test_every_known_spelling_of_the_keys_reads_alike(
    tensors: Tensors, tmp_path: Path, suffix: str, written: Callable[[str], str]
) -> None:
    file = tmp_path / f"lora{suffix}"
    spelt = {written(key): value for key, value in tensors.items()}
    if suffix == ".bin":
        torch.save(spelt, file)
    else:
        save_file(spelt, file)
    found = lora.read(file)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[key], tensors[key]) for key in tensors)


def test_two_spellings_of_one_key_are_refused_by_name(tensors: Tensors) -> None:
    key = "linear.lora_A.default.weight"
    with pytest.raises(FailedState, match=r"linear\.lora_A\.default\.weight and unet\.linear\.lora_A\.weight"):
        lora.normalised({**tensors, "unet.linear.lora_A.weight": tensors[key]})


@pytest.mark.parametrize(
    ("name", "content"), [("a.bin", b""), ("a.bin", b"no tensors"), ("a.safetensors", b"\x00" * 9)]
)
def test_an_unreadable_file_is_refused_by_its_path(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FailedState, match=name):
        lora.read(tmp_path / name)


def test_an_absent_file_is_refused_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(FailedState, match=r"absent\.bin"):
        lora.read(tmp_path / "absent.bin")


def test_a_pickle_with_code_in_it_is_refused(tmp_path: Path) -> None:
    torch.save({"linear": Net()}, tmp_path / "net.bin")
    with pytest.raises(FailedState, match=r"net\.bin must be a readable file of tensors"):
        lora.read(tmp_path / "net.bin")


def test_a_file_with_more_than_tensors_is_refused(tensors: Tensors, tmp_path: Path) -> None:
    torch.save({"state_dict": tensors}, tmp_path / "nested.bin")
    with pytest.raises(FailedState, match="tensors by name and nothing else, got dict"):
        lora.read(tmp_path / "nested.bin")


def test_every_wrong_key_is_named_at_once(net: Net, tensors: Tensors) -> None:
    wrong = dict(tensors)
    del wrong["embed.proj.lora_B.default.weight"]
    wrong["linear.lora_A.default.weight"] = torch.zeros(RANK, 7)
    wrong["linear.lora_B.default.weight"] = torch.zeros(5, RANK, dtype=torch.int64)
    wrong["linear.bias"] = torch.zeros(5)
    with pytest.raises(FailedState) as caught:
        lora.check(wrong, lora.expected_keys(net, SUFFIXES, RANK))
    for problem in (
        "missing embed.proj.lora_B.default.weight",
        "linear.lora_A.default.weight must have shape (2, 6), got (2, 7)",
        "linear.lora_B.default.weight must hold floating-point numbers, got torch.int64",
        "left over linear.bias",
    ):
        assert problem in caught.value.message


def _inject(net: nn.Module, tensors: Tensors) -> None:
    lora.inject(net, tensors, RANK, ALPHA)


def _merge(net: nn.Module, tensors: Tensors) -> None:
    lora.merge(net, tensors, ALPHA)


@pytest.mark.parametrize("way", [_inject, _merge])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda given: given.pop("linear.lora_B.default.weight"),
        lambda given: given.update({"linear.lora_B.default.weight": torch.zeros(4, RANK)}),
        lambda given: given.update({"absent.lora_A.default.weight": torch.zeros(RANK, 6)}),
        lambda given: given.update({"linear.weight": torch.zeros(5, 6)}),
        lambda given: given.clear(),
    ],
)
def test_tensors_that_do_not_fit_leave_the_network_as_it_was(
    net: Net, tensors: Tensors, way: Callable[[nn.Module, Tensors], None], spoil: Callable[[Tensors], object]
) -> None:
    spoil(tensors)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(FailedState):
        way(net, tensors)
    after = net.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_merging_gives_what_the_injected_network_gives(net: Net, tensors: Tensors, picture: Tensor) -> None:
    merged, injected = copy.deepcopy(net), copy.deepcopy(net)
    _merge(merged, tensors)
    _inject(injected, tensors)
    expected = injected(picture)
    assert not torch.allclose(net(picture), expected, atol=1e-2)
    assert torch.allclose(merged(picture), expected, atol=1e-4)


def test_a_merged_network_has_the_bare_networks_keys(net: Net, tensors: Tensors) -> None:
    before = net.state_dict().keys()
    _merge(net, tensors)
    assert net.state_dict().keys() == before


def test_merging_scales_by_alpha_over_rank(net: Net, tensors: Tensors) -> None:
    expected = net.linear.weight + 3 * tensors["linear.lora_B.default.weight"] @ tensors["linear.lora_A.default.weight"]
    _merge(net, tensors)
    assert torch.allclose(net.linear.weight, expected, atol=1e-6)


def test_merging_into_half_precision_rounds_once(net: Net, tensors: Tensors) -> None:
    half = copy.deepcopy(net).to(torch.bfloat16)
    exact = copy.deepcopy(half).float()
    _merge(half, tensors)
    _merge(exact, tensors)
    assert half.linear.weight.dtype == torch.bfloat16
    assert torch.equal(half.linear.weight, exact.linear.weight.to(torch.bfloat16))


def test_injected_adapters_follow_the_layers_dtype(net: Net, tensors: Tensors, picture: Tensor) -> None:
    half = net.to(torch.bfloat16)
    _inject(half, tensors)
    assert {value.dtype for value in half.state_dict().values()} == {torch.bfloat16}
    assert half(picture.to(torch.bfloat16)).dtype == torch.bfloat16


def test_an_injected_network_is_frozen(net: Net, tensors: Tensors) -> None:
    _inject(net, tensors)
    assert not any(one.requires_grad for one in net.parameters())
    assert not net.training


def test_a_second_adapter_is_refused(net: Net, tensors: Tensors) -> None:
    _inject(net, tensors)
    with pytest.raises(FailedState, match=r"left over linear\.lora_A"):
        _merge(net, tensors)
