"""The scoreboard's metrics against values that can be worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from benchmarks.scoreboard.consistency import differences, patch_means, same_colour
from benchmarks.scoreboard.figures import PERFECT_DB, means, page_figures, truth_figures
from benchmarks.scoreboard.frechet import frechet_distance, frechet_of_gaussians
from benchmarks.scoreboard.journal import Journal
from benchmarks.scoreboard.late import NEEDS, Late, Weights, load
from benchmarks.scoreboard.towers import AestheticHead, clip_pixels, cosine, read_clip, read_inception


def flat(*rgb: int, height: int = 64, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), rgb, np.uint8)


def mean_tower(path: Path) -> Path:
    """An ONNX network whose vector is the mean of each channel."""
    given = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, "h", "w"])
    made = helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", 3, 1, 1])
    graph = helper.make_graph([helper.make_node("GlobalAveragePool", ["pixels"], ["vector"])], "mean", [given], [made])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def test_frechet_distance_of_two_normals_on_a_line():
    distance = frechet_of_gaussians(np.array([1.0]), np.array([[4.0]]), np.array([5.0]), np.array([[9.0]]))
    assert distance == pytest.approx((1 - 5) ** 2 + (2 - 3) ** 2)


def test_frechet_distance_of_covariances_that_share_their_axes():
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    one, other = np.array([1.0, 4.0, 0.0, 9.0]), np.array([4.0, 1.0, 2.0, 0.25])
    distance = frechet_of_gaussians(
        np.zeros(4), turn @ np.diag(one) @ turn.T, np.ones(4), turn @ np.diag(other) @ turn.T
    )
    assert distance == pytest.approx(4 + np.sum((np.sqrt(one) - np.sqrt(other)) ** 2))


@pytest.mark.parametrize(("n", "m"), [(200, 300), (5, 7)])  # more samples than features, and fewer
def test_the_distance_of_samples_is_that_of_their_gaussians(n: int, m: int):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(n, 12)), rng.normal(0.3, 2, size=(m, 12)) @ rng.normal(size=(12, 12))
    wanted = frechet_of_gaussians(x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T))
    assert frechet_distance(x, y) == pytest.approx(wanted, rel=1e-6)


def test_a_sample_has_no_distance_to_itself():
    x = np.random.default_rng(2).normal(size=(9, 40))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)


def test_a_shift_alone_is_its_square():
    x = np.random.default_rng(3).normal(size=(9, 40))
    assert frechet_distance(x, x + 0.5) == pytest.approx(40 * 0.25)


def test_one_page_has_no_covariance():
    with pytest.raises(ValueError, match="at least 2"):
        frechet_distance(np.zeros((1, 8)), np.zeros((4, 8)))


def test_a_page_equal_to_its_truth_counts_100_db(tmp_path: Path):
    truth = tmp_path / "truth.png"
    Image.fromarray(flat(200, 40, 40)).save(truth)
    figures = page_figures(truth, truth.read_bytes())
    assert (figures["psnr_db"], figures["ciede"]) == (PERFECT_DB, 0)


def test_a_patch_is_known_by_its_mean_colour():
    picture = np.concatenate([flat(255, 0, 0, height=8, width=64), flat(0, 0, 0, height=8, width=64)])
    red, black = patch_means(picture)[0], patch_means(picture)[-1]
    assert red == pytest.approx([53.24, 80.09, 67.20], abs=0.02)
    assert black == pytest.approx([0, 0, 0], abs=1e-6)


def test_only_patches_of_one_true_colour_on_different_pages_are_compared():
    red, almost, green = (
        patch_means(flat(*rgb, height=8))[:1] for rgb in [(200, 30, 30), (201, 30, 30), (30, 200, 30)]
    )
    pairs = same_colour([np.concatenate([red, red]), np.concatenate([almost, green])])
    assert [(p.pages, p.first.tolist(), p.second.tolist()) for p in pairs] == [((0, 1), [0, 1], [0, 0])]


def test_consistency_is_the_difference_between_the_results():
    lab = np.array([[50.0, 2.6772, -79.7751]])  # the first pair of Sharma, Wu and Dalal's test data
    other = np.array([[50.0, 0.0, -82.7485]])
    same = np.array([[50.0, 0.0, 0.0]])
    total, count = differences([lab, other], same_colour([same, same]))
    assert (total, count) == (pytest.approx(2.0425, abs=1e-4), 1)


def test_a_single_page_has_no_consistency():
    assert differences([np.zeros((4, 3))], same_colour([np.zeros((4, 3))])) == (0.0, 0)


def test_means_are_over_pages_and_ratios_sum_over_sum():
    def entry(psnr: float, ciede: float, colour: float) -> dict[str, float]:
        return {"psnr_db": psnr, "ssim": 1.0, "ciede": ciede, "colourfulness": colour}

    a, b = ("ch01", "p1"), ("ch01", "p2")
    grey, truth = {a: entry(20, 10, 0), b: entry(30, 2, 0)}, {a: {"colourfulness": 40}, b: {"colourfulness": 60}}
    figures = means({a: entry(22, 5, 30), b: entry(29, 4, 20)}, grey, truth)
    assert figures["psnr_gain_db"] == pytest.approx((2 - 1) / 2)
    assert figures["ciede_ratio_to_grey"] == pytest.approx(9 / 12)
    assert figures["colourfulness_ratio"] == pytest.approx(50 / 100)


def test_clip_sees_the_middle_of_a_page():
    page = np.concatenate([flat(0, 0, 0, height=40), flat(255, 255, 255), flat(0, 0, 0, height=40)])
    seen = clip_pixels(page)
    assert seen.shape == (1, 3, 224, 224)
    assert seen[0, :, 8:-8].min() > 1.9  # white, after mean and deviation


def test_clip_is_one_for_equal_pictures_and_falls_with_the_angle(tmp_path: Path):
    tower = read_clip(mean_tower(tmp_path / "mean.onnx"), "")
    red, blue = tower(flat(255, 0, 0)), tower(flat(0, 0, 255))
    assert cosine(red, red) == pytest.approx(1)
    assert cosine(red, blue) == pytest.approx(float(red @ blue / np.linalg.norm(red) / np.linalg.norm(blue)), abs=1e-6)


def test_the_aesthetic_head_is_linear_on_the_unit_vector(tmp_path: Path):
    np.savez(tmp_path / "head.npz", weight=np.array([[3.0, 4.0]], np.float32), bias=np.array([1.0], np.float32))
    assert AestheticHead(tmp_path / "head.npz")(np.array([0.0, 10.0], np.float32)) == pytest.approx(5)


def test_a_stack_of_linear_layers_is_one(tmp_path: Path):
    rng = np.random.default_rng(4)
    shapes = {"layers.0": (5, 3), "layers.2": (4, 5), "layers.10": (1, 4)}  # 10 comes after 2
    state = {f"{n}.weight": rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    state |= {f"{n}.bias": rng.normal(size=s[0]).astype(np.float32) for n, s in shapes.items()}
    np.savez(tmp_path / "head.npz", **state)
    value = np.array([0.6, 0.0, 0.8], np.float32)
    wanted = value
    for name in shapes:
        wanted = state[f"{name}.weight"] @ wanted + state[f"{name}.bias"]
    assert AestheticHead(tmp_path / "head.npz")(value) == pytest.approx(float(wanted[0]), rel=1e-5)


def test_a_head_that_does_not_end_in_one_value_is_refused(tmp_path: Path):
    np.savez(tmp_path / "head.npz", weight=np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match="must end in one value, ends in 2"):
        AestheticHead(tmp_path / "head.npz")


def test_inception_is_given_the_whole_page_in_0_to_255(tmp_path: Path):
    page = np.concatenate([flat(0, 0, 0, height=128), flat(200, 100, 50, height=128)])
    assert read_inception(mean_tower(tmp_path / "mean.onnx"))(page) == pytest.approx([100, 50, 25], rel=0.01)


def test_without_weights_each_metric_says_what_it_needs():
    said = load(Weights()).said()
    assert said == {name: {"left_out": reason} for name, reason in NEEDS.items()}


def test_weights_that_cannot_be_used_leave_their_metric_out(tmp_path: Path):
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    networks = load(Weights(clip=tmp_path / "broken.onnx", inception=tmp_path / "missing.onnx"))
    said = networks.said()
    assert "must be an ONNX model" in said["clip_is"]["left_out"]
    assert "is not there" in said["fid"]["left_out"]
    assert networks.keys == ()


def test_late_metrics_are_worked_out_once(tmp_path: Path):
    tower = mean_tower(tmp_path / "mean.onnx")
    np.savez(tmp_path / "head.npz", weight=np.array([[0.0, 0.0, 1.0]], np.float32))
    networks = load(Weights(tower, "", tower, tower, "", tmp_path / "head.npz"))
    journal = Journal(tmp_path / "journal.jsonl")
    late = Late(networks, journal, tmp_path / "features")
    reads: list[str] = []

    def read(name: str, *rgb: int):
        def pixels() -> np.ndarray:
            reads.append(name)
            return flat(*rgb)

        return pixels

    truths = {name: read(name, *rgb) for name, rgb in {"t1": (250, 10, 10), "t2": (10, 250, 10)}.items()}
    results = {"r1": read("r1", 250, 10, 10), "r2": read("r2", 10, 10, 250)}
    for _ in range(2):
        for truth, result in zip(truths, results, strict=True):
            late.page(truth, truth, truths[truth], true=(truth, truths[truth]))
            late.page(result, f"pixels of {result}", results[result], true=(truth, truths[truth]))
    assert sorted(reads) == ["r1", "r2", "t1", "t1", "t2", "t2"]  # a truth by itself, and once for CLIP-IS
    assert journal.get("r1")[networks.clip_key] == pytest.approx(1)
    assert journal.get("r2")[networks.clip_key] < 0.99
    assert journal.get("r2")[networks.aesthetic_key] > journal.get("r1")[networks.aesthetic_key]
    features = {
        n: np.array(v, float) for n, v in {"t1": (250, 10, 10), "t2": (10, 250, 10), "r2": (10, 10, 250)}.items()
    }
    wanted = frechet_distance([features["t1"], features["r2"]], [features["t1"], features["t2"]])
    assert late.fid(["pixels of r1", "pixels of r2"], ["t1", "t2"]) == pytest.approx(wanted, rel=1e-3)


def test_of_a_true_page_its_own_colourfulness_is_told(tmp_path: Path):
    truth = tmp_path / "truth.png"
    Image.fromarray(flat(1, 2, 3)).save(truth)
    assert truth_figures(truth)["colourfulness"] == pytest.approx(0.3 * math.hypot(-1, 1.5 - 3))
