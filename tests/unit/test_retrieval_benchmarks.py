"""The benchmarks of the retrieval engine at a small size: that they run, and that their figures mean what they say."""

from __future__ import annotations

import numpy as np

from benchmarks.gpu import retrieval as gpu
from benchmarks.pools import PATCHES, batches, clustered, references
from retrieval.index import CpuScanner


def test_made_up_vectors_are_alike_within_a_reference_more_than_within_a_chapter_more_than_within_a_series():
    one, other = clustered(50, 64, seed=1, chapter=1), clustered(50, 64, seed=1, chapter=2)
    stranger = clustered(50, 64, seed=2, chapter=1)
    assert np.allclose(np.linalg.norm(one, axis=1), 1, atol=1e-6)
    page, pages = one[:PATCHES] @ one[:PATCHES].T, one[:PATCHES] @ one[PATCHES:].T
    chapters, series = one @ other.T, one @ stranger.T
    assert page.mean() > pages.mean() > chapters.mean() > series.mean()


def test_batches_keep_to_what_a_message_may_hold_and_lose_nothing():
    items = references(clustered(6000, 512, seed=3), 1, "s")
    messages = list(batches(items))
    assert len(messages) > 1
    assert max(message.ByteSize() for message in messages) < 4 << 20
    assert [item.key for message in messages for item in message.batch.references] == [item.key for item in items]


def test_the_gpu_benchmark_runs_on_the_cpu_and_agrees_with_it(monkeypatch):
    monkeypatch.setattr(gpu, "QUERIES", (2,))
    result = gpu.size(3000, CpuScanner(), gpu.bandwidth(gpu=False))
    assert result["same_as_cpu"]
    assert [row["bound"] for row in result["search"]] == ["none", "chapter <= half", "every second reference"]
    assert result["build"]["rows_on_device"] == 0
