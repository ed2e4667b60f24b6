"""`panelhue series …` and `panelhue backup`: the commands of upkeep against a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from panelhue.retrieval_client import RetrievalClient
from tests.wire.command_line import Command
from tests.wire.conftest import RunningServer
from tests.wire.pools import files, imported, made, pool_of

VARIANTS = json.dumps({"fitted": {"embedder": "structure", "crop_recipe": "fit:64x96"}})


class Spawned(Command):
    """The command without a fork of this process, which holds gRPC channels that a child could not go on with."""

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "panelhue", *map(str, arguments)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=self.environment, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture(scope="module")
def panelhue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    folder = tmp_path_factory.mktemp("upkeep")
    settings = (f"backup_dir={folder / 'backups'}", f"embedder_variants={VARIANTS}")
    flags = [part for setting in settings for part in ("--set", setting)]
    server = RunningServer("retrieval-server", folder, "--data", str(folder / "data"), *flags)
    yield Spawned({**os.environ, "PANELHUE_RETRIEVAL": server.address, "COLUMNS": "200"})
    server.stop()


@pytest.fixture(scope="module")
def pools(panelhue: Command) -> Iterator[RetrievalClient]:
    with RetrievalClient(panelhue.environment["PANELHUE_RETRIEVAL"]) as client:
        yield client


def test_a_series_is_loaded_listed_and_unloaded(panelhue: Command, pools: RetrievalClient) -> None:
    pool_of(pools, "held", [made(n) for n in range(5)])
    assert panelhue.json("series", "load", "held", "--pin")["pinned"] is True
    assert "held" in panelhue("series", "residents")
    assert panelhue.json("series", "residents")["residents"][0]["tier"] == "memory"
    assert panelhue.json("series", "unload", "held")["memory_bytes"] > 0
    assert panelhue.json("series", "residents")["total"] == 0


def test_a_gpu_that_is_not_there_means_exit_code_4(panelhue: Command, pools: RetrievalClient) -> None:
    pool_of(pools, "gpu-less", [made(1)])
    told = panelhue.run("series", "load", "gpu-less", "--gpu")
    assert (told.returncode, "GPU" in told.stderr) == (4, True)


def test_the_options_of_a_series_are_set(panelhue: Command, pools: RetrievalClient) -> None:
    pool_of(pools, "optioned", [made(1)])
    options = ("--precision", "float16", "--max-references", 5, "--max-reference-depth", 2, "--max-depth", 0)
    changed = panelhue.json("series", "set", "optioned", *options)
    assert (changed["index"]["precision"], changed["quota"]["max_references"]) == ("float16", 5)
    assert (changed["max_reference_depth"], changed["default_max_depth"]) == (2, 0)
    again = panelhue.json("series", "set", "optioned", "--max-bytes", 9, "--max-depth", "none")
    assert again["quota"] == {"max_references": 5, "max_bytes": 9}
    assert (again["max_reference_depth"], again["default_max_depth"]) == (2, None)
    assert "5 references" in panelhue("series", "show", "optioned")


@pytest.mark.parametrize(
    "arguments",
    [
        ("series", "set", "optionless"),
        ("series", "set", "optionless", "--max-depth", "deep"),
        ("series", "set", "optionless", "--index", "magic"),
        ("series", "restore", "optionless", "s", "--into", "x", "--replace"),
        ("series", "snapshots", "--delete", "s"),
        ("series", "migrate", "optionless", "fitted", "--cancel"),
    ],
)
def test_wrong_usage_means_exit_code_2(panelhue: Command, pools: RetrievalClient, arguments: tuple[str, ...]) -> None:
    if "optionless" not in {one.id for one in pools.list_series()}:
        pool_of(pools, "optionless")
    assert panelhue.run(*arguments).returncode == 2


def test_a_snapshot_is_made_listed_restored_and_removed(panelhue: Command, pools: RetrievalClient) -> None:
    pool_of(pools, "tale", [made(n) for n in range(3)])
    taken = panelhue.json("series", "snapshot", "tale", "--name", "good")
    assert (taken["name"], taken["references"]) == ("good", 3)
    imported(pools, "tale", [made(9)])
    assert "good" in panelhue("series", "snapshots", "tale")
    assert panelhue.run("series", "restore", "tale", "good").returncode == 4
    assert panelhue.json("series", "restore", "tale", "good", "--replace")["reference_count"] == 3
    assert panelhue.json("series", "restore", "tale", "good", "--into", "other")["id"] == "other"
    assert panelhue.json("series", "snapshots", "tale", "--delete", "good") == []


def test_a_check_says_what_it_read(panelhue: Command, pools: RetrievalClient) -> None:
    pool_of(pools, "checked", [made(n) for n in range(3)])
    found = panelhue.json("series", "check", "checked")
    assert (found["findings"], found["references"]) == ([], 3)
    assert "nothing is wrong" in panelhue("series", "check", "checked")


def test_a_series_is_compacted(panelhue: Command, pools: RetrievalClient) -> None:
    ids = pool_of(pools, "dense", [made(n) for n in range(3)])
    pools.delete_references("dense", ids[:2])
    assert panelhue.json("series", "compact", "dense", "--drop-history")["references_dropped"] == 2
    assert "0 removed references dropped" in panelhue("series", "compact", "dense")


def test_a_series_is_reindexed(panelhue: Command, pools: RetrievalClient) -> None:
    pool_of(pools, "anew", [made(n) for n in range(3)])
    assert panelhue.json("series", "reindex", "anew")["rows"] == 3


def test_a_series_is_migrated(panelhue: Command, pools: RetrievalClient) -> None:
    pools.create_series("moving")
    list(pools.add_references("moving", files(range(3))))
    done = panelhue.json("series", "migrate", "moving", "fitted", "--wait")
    assert done["migration"] is None
    assert done["embedding_space"]["crop_recipe"] == "fit:64x96"
    assert panelhue.run("series", "migrate", "moving", "--cancel").returncode == 4


def test_near_duplicates_and_drift_are_reported(panelhue: Command, pools: RetrievalClient) -> None:
    pools.create_series("clean")
    list(pools.add_references("clean", files(range(3))))
    assert panelhue.json("series", "duplicates", "clean", "--dry-run")["total"] == 0
    assert "no near duplicates" in panelhue("series", "duplicates", "clean")
    assert panelhue.json("series", "drift", "clean")["pairs"] == 0
    assert "clean" in panelhue("series", "drift", "clean", "--max-chapter", "3")


def test_a_backup_is_a_data_folder(panelhue: Command, pools: RetrievalClient, tmp_path: Path) -> None:
    pool_of(pools, "safe", [made(n) for n in range(3)])
    done = panelhue.json("backup", "--name", "monday")
    assert (done["name"], done["failed"]) == ("monday", {})
    assert done["series"] == len(list(pools.list_series()))
    assert panelhue.run("backup", "--name", "monday").returncode == 4
