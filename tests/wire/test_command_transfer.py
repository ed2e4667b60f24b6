"""`panelhue series export` and `import`: a pool as one file, from one server to another."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from panelhue.retrieval_client import RetrievalClient
from panelhue.types import IndexOptions, Origin, Provenance, Quota, ReferenceFile, Swatch
from tests.wire import command_line
from tests.wire.command_line import Command

servers, panelhue, comic = command_line.panelhue, command_line.inside, command_line.comic  # fixtures


@pytest.fixture(scope="module")
def exported(panelhue: Command, comic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A series with everything that travels, as a file."""
    with RetrievalClient(panelhue.environment["PANELHUE_RETRIEVAL"]) as client:
        client.create_series(
            "tale",
            display_name="A Tale",
            palette=[Swatch("hair", 0xCC3322)],
            labels={"note": "mine"},
            index=IndexOptions(recall_floor=0.9),
            quota=Quota(max_references=100),
            max_reference_depth=3,
            default_max_depth=1,
        )
        pages = sorted((comic / "truth" / "ch01").iterdir())
        files = [ReferenceFile(path.name, path, 1000, number, ("given",)) for number, path in enumerate(pages, 1)]
        ids = [one.reference.id for one in client.add_references("tale", files[:3]) if one.reference]
        made = Provenance(Origin.GENERATED, 2, tuple(ids), "exemplar", "p04.png")
        [last] = client.add_references("tale", [ReferenceFile("p", pages[3], 10500, None, ("grown",), made)])
        assert last.failure is None
    file = tmp_path_factory.mktemp("export") / "tale.panelhue"
    report = panelhue.json("series", "export", "tale", file)
    assert (report["references"], report["byte_size"]) == (4, file.stat().st_size)
    return file


def test_drafts_that_a_kill_left_are_swept(panelhue: Command, exported: Path, tmp_path: Path) -> None:
    for name in (".tale.panelhue.7.draft", ".other.panelhue.7.draft"):
        (tmp_path / name).touch()
    panelhue("series", "export", "tale", tmp_path / "tale.panelhue")
    panelhue("series", "references", "tale", "--save", tmp_path / "saved")
    saved = sorted(path.name for path in (tmp_path / "saved").iterdir())
    (tmp_path / "saved" / f".{saved[0]}.7.draft").touch()
    panelhue("series", "references", "tale", "--save", tmp_path / "saved")
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == saved
    assert [path.name for path in tmp_path.glob(".*")] == [".other.panelhue.7.draft"]


def facts(panelhue: Command, series: str) -> tuple[dict[str, Any], list[Any]]:
    shown = panelhue.json("series", "show", series)["series"]
    names = ("display_name", "embedder", "embedding_space", "palette", "labels", "index", "quota")
    depths = ("max_reference_depth", "default_max_depth")
    listed = panelhue.json("series", "references", series)
    keys = ("id", "chapter", "page", "tags", "provenance", "width", "media_type")
    return {name: shown[name] for name in (*names, *depths)}, [[one[key] for key in keys] for one in listed]


def test_an_import_gives_the_series_that_was_exported(panelhue: Command, exported: Path, tmp_path: Path) -> None:
    done = panelhue.json("series", "import", exported, "--as", "twin")
    assert (done["made"], done["added"], done["rejected"], done["notes"]) == (True, 4, {}, [])
    assert facts(panelhue, "twin") == facts(panelhue, "tale")
    panelhue("series", "export", "twin", tmp_path / "again.panelhue")
    with zipfile.ZipFile(exported) as one, zipfile.ZipFile(tmp_path / "again.panelhue") as other:
        assert set(one.namelist()) == set(other.namelist())  # a stream's pictures may be embedded out of turn
        assert all(one.read(name) == other.read(name) for name in one.namelist() if name.startswith("pictures/"))


def test_the_same_import_again_changes_nothing(panelhue: Command, exported: Path) -> None:
    panelhue("series", "import", exported, "--as", "same")
    before = panelhue.json("series", "show", "same")["series"]["generation"]
    done = panelhue.json("series", "import", exported, "--as", "same")
    assert (done["made"], done["added"], done["already_present"], done["different"]) == (False, 0, 4, [])
    assert panelhue.json("series", "show", "same")["series"]["generation"] == before


def test_a_stopped_import_goes_on(panelhue: Command, exported: Path) -> None:
    panelhue("series", "import", exported, "--as", "part")
    ids = [one["id"] for one in panelhue.json("series", "references", "part")]
    with RetrievalClient(panelhue.environment["PANELHUE_RETRIEVAL"]) as client:  # as if it had come no further
        client.delete_references("part", ids[:2])
    done = panelhue.json("series", "import", exported, "--as", "part")
    assert (done["added"], done["already_present"]) == (2, 2)
    assert facts(panelhue, "part") == facts(panelhue, "tale")


def test_somebody_elses_series_is_left_alone_unless_asked(panelhue: Command, exported: Path, comic: Path) -> None:
    panelhue("ingest", comic / "truth" / "ch02", "-s", "own", "--create")
    told = panelhue.run("series", "import", exported, "--as", "own")
    assert (told.returncode, "--merge" in told.stderr) == (2, True)
    assert len(panelhue.json("series", "references", "own")) == 4
    assert panelhue.json("series", "import", exported, "--as", "own", "--merge")["added"] == 4
    assert panelhue.json("series", "show", "own")["series"]["display_name"] == "own"


def test_a_file_that_is_there_is_not_replaced_unasked(panelhue: Command, exported: Path) -> None:
    before = exported.read_bytes()
    panelhue("series", "export", "tale", exported, code=2)
    assert exported.read_bytes() == before
    panelhue("series", "export", "tale", exported, "--overwrite")
    assert exported.read_bytes() == before


def test_verifying_asks_no_server(panelhue: Command, exported: Path) -> None:
    found = panelhue.json("series", "import", exported, "--verify", "--retrieval", "127.0.0.1:1")
    assert (found["sound"], found["references"]) == (True, 4)


def rewritten(file: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """The file with other bytes in its entries, or without them."""
    draft = file.with_suffix(".draft")
    with zipfile.ZipFile(file) as before, zipfile.ZipFile(draft, "w") as after:
        for name in before.namelist():
            if (data := change(name, before.read(name))) is not None:
                after.writestr(name, data)
    draft.replace(file)


def of(wanted: str, change: Callable[[bytes], bytes | None]) -> Callable[[str, bytes], bytes | None]:
    return lambda name, data: change(data) if name.startswith(wanted) else data


def newer(data: bytes) -> bytes:
    return json.dumps(json.loads(data) | {"version": 2}).encode()


DAMAGE: dict[str, Callable[[Path], None]] = {
    "a picture has other bytes": lambda file: rewritten(file, of("pictures/", lambda data: data[:-1] + b"?")),
    "a picture is missing": lambda file: rewritten(file, of("pictures/", lambda data: None)),
    "a line is changed": lambda file: rewritten(file, of("references", lambda data: data.replace(b"1000", b"2000"))),
    "a line is cut short": lambda file: rewritten(file, of("references", lambda data: data[:-9])),
    "the settings are changed": lambda file: rewritten(file, of("series", lambda data: data.replace(b"hair", b"hear"))),
    "the settings are none": lambda file: rewritten(file, of("series", lambda data: b"[]")),
    "the manifest is none": lambda file: rewritten(file, of("manifest", lambda data: b"[]")),
    "the manifest is missing": lambda file: rewritten(file, of("manifest", lambda data: None)),
    "a newer version": lambda file: rewritten(file, of("manifest", newer)),
    "cut short": lambda file: file.write_bytes(file.read_bytes()[:-100]) and None,
    "empty": lambda file: file.write_bytes(b"") and None,
    "not there": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_changes_nothing(panelhue: Command, exported: Path, tmp_path: Path, damage: str) -> None:
    from typer.testing import CliRunner

    from panelhue.cli import app

    file = tmp_path / "bad.panelhue"
    shutil.copy(exported, file)
    DAMAGE[damage](file)
    arguments = [
        "series",
        "import",
        str(file),
        "--as",
        "bad",
        "--retrieval",
        panelhue.environment["PANELHUE_RETRIEVAL"],
    ]
    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 2, told.output
    with RetrievalClient(panelhue.environment["PANELHUE_RETRIEVAL"]) as client:
        assert "bad" not in {one.id for one in client.list_series()}


def test_a_series_of_ready_made_vectors_does_not_travel(panelhue: Command, tmp_path: Path) -> None:
    from panelhue.types import EmbeddingSpace

    with RetrievalClient(panelhue.environment["PANELHUE_RETRIEVAL"]) as client:
        client.create_series("ready", embedder="vectors", embedding_space=EmbeddingSpace(model="mine", dim=8))
    told = panelhue.run("series", "export", "ready", tmp_path / "x")
    assert (told.returncode, "snapshot" in told.stderr, (tmp_path / "x").exists()) == (2, True, False)
