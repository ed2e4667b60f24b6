"""Settings: flags before the environment before the file."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from colorizer.config import ColorizerSettings


def test_flags_win_over_the_environment_and_that_over_the_file(monkeypatch, tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('queue = 1\nworkers = 2\nreadahead = 3\n[backend_settings.colorflow]\nweights = "/w"\n')
    monkeypatch.setenv("PANELHUE_COLORIZER_WORKERS", "20")
    monkeypatch.setenv("PANELHUE_COLORIZER_READAHEAD", "30")
    settings = ColorizerSettings.load({"readahead": 40, "queue": None}, file)
    assert (settings.queue, settings.workers, settings.readahead) == (1, 20, 40)
    assert settings.backend_settings == {"colorflow": {"weights": "/w"}}


def test_every_wrong_setting_is_shown_at_once():
    with pytest.raises(ValidationError) as caught:
        ColorizerSettings.load({"workers": 0, "queue": -1, "no_such_setting": 1}, None)
    assert {error["loc"][0] for error in caught.value.errors()} == {"workers", "queue", "no_such_setting"}


@pytest.mark.parametrize("text", ["cpu,cuda:0", "cpu, cuda:0", '["cpu", "cuda:0"]'])
def test_lists_come_as_text_from_flags_and_the_environment(monkeypatch, text):
    monkeypatch.setenv("PANELHUE_COLORIZER_DEVICES", text)
    assert ColorizerSettings.load({}, None).devices == ("cpu", "cuda:0")
    monkeypatch.delenv("PANELHUE_COLORIZER_DEVICES")
    assert ColorizerSettings.load({"devices": text}, None).devices == ("cpu", "cuda:0")


def test_a_missing_file_is_said_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.toml"):
        ColorizerSettings.load({}, tmp_path / "nowhere.toml")


def test_every_setting_says_what_it_means():
    assert all(field.description for field in ColorizerSettings.model_fields.values())


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        ColorizerSettings.load({}, None).queue = 3


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"address": "h:1", "command": "run"}, "command, python, env and cwd must be unset"),
        ({"command": "run", "python": "/p"}, "a command or a python, not both"),
        ({"command": "run", "token": "t"}, "a token goes with an address"),
        ({"command": "run", "max_pages": 0}, "greater than or equal to 1"),
        ({"comand": "run"}, "Extra inputs are not permitted"),
    ],
)
def test_a_remote_that_contradicts_itself_is_refused(table, says):
    with pytest.raises(ValidationError, match=says):
        ColorizerSettings.load({"remotes": {"r": table}}, None)


def test_remotes_of_flags_join_those_of_the_file(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('[remotes.a]\ncommand = "run a"\n')
    settings = ColorizerSettings.load({"remotes": {"b": {"address": "h:1"}}}, file)
    assert (settings.remotes["a"].command, settings.remotes["b"].address) == ("run a", "h:1")


def test_a_supervisors_socket_and_token_are_taken_from_the_environment(monkeypatch):
    monkeypatch.setenv("PANELHUE_BACKEND_SOCKET", "unix:/run/s")
    monkeypatch.setenv("PANELHUE_BACKEND_TOKEN", "secret")
    settings = ColorizerSettings.load({}, None)
    assert settings.listen == "unix:/run/s"
    assert settings.token is not None
    assert settings.token.get_secret_value() == "secret"
    assert "secret" not in str(settings.model_dump(mode="json"))
    assert ColorizerSettings.load({"listen": "h:1"}, None).listen == "h:1"
