"""docs/BACKENDS.md says what is so: its programs run, its tables are those of the code."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from colorizer import device_lost, supervise
from colorizer.config import ColorizerSettings, RemoteSettings

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "BACKENDS.md").read_text()
PROTO = (ROOT / "protos" / "panelhue" / "colorizer" / "v1" / "colorizer.proto").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


def test_the_back_end_of_the_guide_keeps_every_promise(tmp_path):
    backend, check = blocks("python")
    (tmp_path / "my_backend.py").write_text(backend)
    (tmp_path / "check.py").write_text(check + "print(report.summary())\n")
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}:{ROOT / 'clients' / 'python'}"}
    done = subprocess.run(
        [sys.executable, "check.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("sepia: ")


def test_the_settings_of_the_guide_are_taken(tmp_path):
    (block,) = blocks("toml")
    file = tmp_path / "settings.toml"
    file.write_text(block)
    settings = ColorizerSettings.load({}, file)
    assert set(settings.remotes) == set(tomllib.loads(block)["remotes"])
    assert settings.remotes["farm"].max_pages == 4


def test_every_key_of_a_remote_is_in_the_table():
    table = GUIDE.split("Every key:")[1].split("###")[0]
    assert set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE)))) == set(
        RemoteSettings.model_fields
    )


def test_the_variables_are_those_of_the_code():
    assert set(re.findall(r"PANELHUE_BACKEND_\w+", GUIDE)) == {supervise.SOCKET_VARIABLE, supervise.TOKEN_VARIABLE}


def test_the_reasons_are_those_of_the_contract():
    (comment,) = re.findall(r"// Why\. Reasons: (.*?)\.\n", PROTO, re.DOTALL)
    reasons = set(re.findall(r"[A-Z_]{6,}", comment))
    said = GUIDE.split("Reasons that callers know:")[1].split("Code, reason")[0]
    assert set(re.findall(r"`([A-Z_]+)`", said)) == reasons


def test_the_exit_status_is_that_of_the_code():
    assert f"exit status {device_lost.EXIT_STATUS}" in GUIDE


def test_the_defaults_are_those_of_the_code():
    fields = RemoteSettings.model_fields
    for name in ("start_seconds", "wait_seconds", "stop_seconds"):
        assert f"| `{name}` | {fields[name].default:g} |" in GUIDE
    for name in ("transport", "start"):
        assert f"| `{name}` | `{fields[name].default}` |" in GUIDE
