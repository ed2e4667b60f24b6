"""`panelhue data`: a data folder checked, copied and compacted without a server."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import EntryPoint

import pytest
from typer.testing import CliRunner

from panelhue.cli.group import loaded
from retrieval import records
from retrieval.catalog import Catalog
from retrieval.data_command import data_app
from retrieval.folder import DataFolder
from tests.unit.pools import add, filled, id_of, ids, series


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("template") / "data"
    catalog = filled(folder, references=4)
    catalog.create(series("t"))
    add(catalog, 9, "t")
    catalog.close()
    return folder


@pytest.fixture
def folder(template, tmp_path):
    return shutil.copytree(template, tmp_path / "data")


@pytest.fixture
def damaged(folder):
    """The same with a picture that is another one."""
    catalog = Catalog(folder)
    value = records.pack(records.BLOB, b"something else")
    catalog._shelf.write("s", lambda txn: txn.put(b"blobs", bytes.fromhex(id_of(1)), value))
    catalog.close()
    return folder


def run(*arguments: object):
    return CliRunner().invoke(data_app, [str(argument) for argument in arguments])


def test_the_commands_are_mounted_under_one_name():
    command = loaded(EntryPoint("data", "retrieval.data_command:data_app", "panelhue.commands"))
    assert sorted(command.commands) == ["backup", "check", "compact"]


def test_a_sound_folder_is_said_to_be_sound(folder):
    result = run("check", folder)
    assert result.exit_code == 0
    assert "s: 3 references" in result.output
    assert "t: 1 references" in result.output


def test_a_damaged_folder_ends_with_one(damaged):
    result = run("check", damaged)
    assert result.exit_code == 1
    assert "expected sha256" in result.output


def test_a_check_in_json_has_every_finding(damaged):
    found = json.loads(run("check", damaged, "--json").stdout)
    assert not found["sound"]
    assert [finding["reference_id"] for finding in found["series"]["s"]["findings"]] == [id_of(1)] * 2
    assert found["series"]["t"] == {**found["series"]["t"], "references": 1, "findings": []}


def test_one_series_can_be_checked_alone(damaged):
    assert run("check", damaged, "t").exit_code == 0


@pytest.mark.parametrize("command", ["check", "compact"])
def test_a_series_that_is_not_there_ends_with_two(folder, command):
    result = run(command, folder, "u")
    assert (result.exit_code, "no series 'u'" in result.output) == (2, True)


@pytest.mark.parametrize("arguments", [["check"], ["backup", "x"], ["compact"]])
def test_a_folder_that_is_none_ends_with_two_and_stays_as_it_is(tmp_path, arguments):
    command, *rest = arguments
    result = run(command, tmp_path / "nothing", *[tmp_path / name for name in rest])
    assert result.exit_code == 2
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("command", ["check", "compact"])
def test_a_folder_that_is_in_use_ends_with_two(folder, command):
    held = DataFolder(folder)
    result = run(command, folder)
    held.close()
    assert (result.exit_code, "in use" in result.output) == (2, True)


def test_a_backup_holds_all_series(folder, tmp_path):
    result = run("backup", folder, tmp_path / "copy", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["copied"] == ["s", "t"]
    copy = Catalog(tmp_path / "copy")
    assert ids(copy) == {id_of(1), id_of(2), id_of(3)}
    copy.close()


def test_a_backup_without_a_damaged_series_ends_with_one(damaged, tmp_path):
    result = run("backup", damaged, tmp_path / "copy")
    assert (result.exit_code, "s: not copied" in result.output) == (1, True)
    copy = Catalog(tmp_path / "copy")
    assert copy.ids() == ["t"]
    copy.close()


def test_a_backup_that_is_there_ends_with_two(folder, tmp_path):
    (tmp_path / "copy").mkdir()
    assert run("backup", folder, tmp_path / "copy").exit_code == 2


def test_a_compacted_folder_holds_the_same(folder):
    result = run("compact", folder, "--json")
    assert result.exit_code == 0
    assert set(json.loads(result.stdout)["compacted"]) == {"s", "t"}
    catalog = Catalog(folder)
    assert ids(catalog) == {id_of(1), id_of(2), id_of(3)}
    catalog.close()


def test_a_damaged_series_stays_as_it_was_and_ends_with_one(damaged):
    before = (damaged / "series" / "s" / "data.mdb").read_bytes()
    result = run("compact", damaged)
    assert (result.exit_code, "s: as it was" in result.output) == (1, True)
    assert (damaged / "series" / "s" / "data.mdb").read_bytes() == before
