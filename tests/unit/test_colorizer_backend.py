"""The registry lists what is there, loads nothing, and survives what is broken."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest

from colorizer import backend as rooms
from colorizer.backend import Backend, BackendSpec, Card, Registry, discover
from colorizer.backends.tint import SPEC as TINT
from colorizer.backends.tint import Tint
from serving.errors import FailedState, NotFound


def points_to(monkeypatch: pytest.MonkeyPatch, **values: str) -> Registry:
    """A registry in which these entry points are installed."""
    points = [EntryPoint(name, value, rooms.GROUP) for name, value in values.items()]
    monkeypatch.setattr(rooms, "entry_points", lambda group: points)
    return discover()


def test_the_built_in_backends_are_found():
    assert {"exemplar", "tint"} <= set(discover().names)


def test_listing_loads_no_backend_and_no_heavy_library():
    program = (
        "import sys; from colorizer.backend import discover; discover().listings(); "
        "print([m for m in ('scipy', 'torch', 'grpc', 'colorizer.backends.exemplar') if m in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"


def test_tint_meets_the_protocol():
    assert isinstance(Tint(), Backend)


def test_something_else_does_not_meet_the_protocol():
    assert not isinstance(object(), Backend)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("colorizer.no_such_module:SPEC", "ModuleNotFoundError"),
        ("colorizer.backends.tint:NOTHING", "AttributeError"),
        ("colorizer.backends.tint:Tint", "must name a BackendSpec, got"),
        ("colorizer.backends.tint:SPEC", "its card must be named 'other', got 'tint'"),
    ],
)
def test_a_broken_entry_point_is_listed_with_the_reason(monkeypatch, value, says):
    registry = points_to(monkeypatch, other=value)
    assert registry.names == ("other",)
    assert says in registry.listing("other").missing
    with pytest.raises(FailedState, match="cannot be used"):
        registry.spec("other").load({})


def test_a_spec_that_ends_the_interpreter_is_listed_with_the_reason(monkeypatch, tmp_path):
    (tmp_path / "rude_backend.py").write_text("import sys; sys.exit('no thanks')")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = points_to(monkeypatch, rude="rude_backend:SPEC")
    assert "no thanks" in registry.listing("rude").missing


def test_a_check_that_raises_makes_its_backend_unavailable():
    def fail(settings: dict[str, str]) -> str:
        raise OSError("disk on fire")

    card = Card("odd", "1", "Odd.")
    registry = Registry([BackendSpec(card, TINT.load, fail), TINT])
    assert [listing.card.name for listing in registry.listings()] == ["odd", "tint"]
    assert "disk on fire" in registry.listing("odd").missing
    assert not registry.listing("tint").missing


def test_the_first_spec_of_a_name_counts():
    other = BackendSpec(Card("tint", "99", "Another."), TINT.load)
    assert Registry([TINT, other]).spec("tint") is TINT


def test_an_unknown_name_is_not_found():
    with pytest.raises(NotFound, match="no back-end 'x'; there is tint"):
        Registry([TINT]).spec("x")


def test_the_allow_list_leaves_the_others_out():
    assert discover(allowed=["tint"]).names == ("tint",)


def test_extra_backends_come_first():
    extra = discover(extra=["colorizer.backends.tint:SPEC", "nowhere:SPEC"])
    assert "ModuleNotFoundError" in extra.listing("nowhere:SPEC").missing
    assert extra.spec("tint") is TINT


def test_the_settings_of_a_backend_shape_its_card_and_its_sums_are_taken_once():
    calls: list[dict[str, str]] = []

    def sums(settings: dict[str, str]) -> dict[str, str]:
        calls.append(dict(settings))
        return {"a.bin": "00" * 32}

    def describe(card: Card, settings: dict[str, str]) -> Card:
        return replace(card, description=settings["say"])

    spec = BackendSpec(Card("odd", "1", "Odd."), TINT.load, describe=describe, sums=sums)
    registry = Registry([spec], {"odd": {"say": "hello"}})
    assert registry.spec("odd").card.description == "hello"
    for _ in range(2):
        assert registry.listing("odd").card.weights_sha256 == {"a.bin": "00" * 32}
    assert calls == [{"say": "hello"}]


def test_a_backend_that_cannot_describe_itself_or_sum_its_weights_is_listed_with_the_reason():
    def fail(*_: object) -> Card:
        raise OSError("disk on fire")

    card = Card("odd", "1", "Odd.")
    assert "disk on fire" in Registry([BackendSpec(card, TINT.load, describe=fail)]).listing("odd").missing
    assert "disk on fire" in Registry([BackendSpec(card, TINT.load, sums=fail)]).listing("odd").missing
