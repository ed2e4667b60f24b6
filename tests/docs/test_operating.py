"""docs/OPERATING.md: every command in it runs as it stands there; every setting and metric that it names is there."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from panelhue.retrieval_client import RetrievalClient
from retrieval.config import RetrievalSettings
from tests.wire.conftest import RunningServer
from tests.wire.pools import files

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "OPERATING.md"
VARIANTS = json.dumps({"other": {"embedder": "structure", "crop_recipe": "fit:64x96"}})


def commands() -> list[list[str]]:
    """The arguments of each command in the guide, in its order."""
    lines = re.findall(r"^    panelhue (.+)$", GUIDE.read_text(), re.M)
    return [shlex.split(line, comments=True) for line in lines]


def run(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "panelhue", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)


def test_every_command_of_the_guide_runs(tmp_path):
    data = tmp_path / "data"
    settings = ("--set", f"backup_dir={tmp_path / 'backups'}", "--set", f"embedder_variants={VARIANTS}")
    server = RunningServer("retrieval-server", tmp_path, "--data", str(data), *settings)
    environment = {**os.environ, "PANELHUE_RETRIEVAL": server.address}
    # CLIP's weights are not here; a second space of the built-in embedder stands for it.
    words = {"DATA": str(data), "TARGET": str(tmp_path / "target"), "open_clip": "other"}
    given = [[words.get(word, word) for word in one] for one in commands()]
    offline = [one for one in given if one[0] == "data"]
    online = [one for one in given if one[0] != "data"]
    assert len(offline) >= 3
    assert len(online) >= 15
    try:
        with RetrievalClient(server.address) as pools:
            pools.create_series("tale")
            assert len(list(pools.add_references("tale", files(range(3), chapter=1000)))) == 3
        for arguments in online:
            done = run(arguments, environment)
            assert done.returncode == 0, f"panelhue {shlex.join(arguments)}: {done.stdout}\n{done.stderr}"
    finally:
        server.stop()
    for arguments in offline:
        done = run(arguments, environment)
        assert done.returncode == 0, f"panelhue {shlex.join(arguments)}: {done.stdout}\n{done.stderr}"


def test_every_setting_of_the_guide_is_one():
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", GUIDE.read_text()))
    settings = {name for name in named if not name.startswith("panelhue_")} - OF_THE_CONTRACT
    assert settings
    assert settings <= set(RetrievalSettings.model_fields), settings - set(RetrievalSettings.model_fields)


OF_THE_CONTRACT = {"as_of_generation", "max_hits_per_reference", "read_only"}


def test_every_metric_of_the_guide_is_one():
    import prometheus_client

    import retrieval.residency
    import serving.interceptor  # noqa: F401 - registers its metrics, as the other does

    assert retrieval.residency  # the same
    known = {metric.name for metric in prometheus_client.REGISTRY.collect()}
    named = set(re.findall(r"`(panelhue_[a-z_]+)`", GUIDE.read_text()))
    assert named
    assert {name.removesuffix("_total") for name in named} <= known
