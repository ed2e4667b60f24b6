"""Short calls of both kinds of clients to servers that fail for the moment or hang."""

from __future__ import annotations

import pytest

from panelhue import errors
from panelhue import types as t
from panelhue.retries import Retry, Retrying
from tests.unit import client_faults
from tests.unit.client_faults import QUICK, Asyncio, Blocking, Kind, Script, hooked, late, status

script, target = client_faults.script, client_faults.target  # fixtures


@pytest.fixture(params=[Blocking, Asyncio], ids=["blocking", "asyncio"])
def kind(request: pytest.FixtureRequest) -> Kind:
    made: Kind = request.param()
    return made


# -- what fails for the moment


@pytest.mark.parametrize("name", ["RESOURCE_EXHAUSTED", "UNAVAILABLE"])
def test_a_server_that_says_when_to_come_back_is_asked_again_then(
    kind: Kind, script: Script, target: str, name: str
) -> None:
    script.failures = [status(name, retry_after=0.08)]
    retry, told = hooked()
    found = kind.one(kind.retrieval, target, lambda client: client.get_series("x"), retry=retry)
    assert found.id == "x"
    assert len(script.calls) == 2
    assert [(one.method, one.target, one.attempt) for one in told] == [("GetSeries", target, 1)]
    assert told[0].seconds >= 0.08
    assert told[0].error.retry_after == 0.08


def test_a_full_quota_is_told_at_once(kind: Kind, script: Script, target: str) -> None:
    script.failures = [status("RESOURCE_EXHAUSTED")]
    with pytest.raises(errors.Overloaded):
        kind.one(kind.retrieval, target, lambda client: client.get_series("x"), retry=QUICK)
    assert len(script.calls) == 1


def test_a_failure_that_stays_is_told_after_the_last_attempt(kind: Kind, script: Script, target: str) -> None:
    script.failures = [status("UNAVAILABLE")] * 5
    with pytest.raises(errors.Unavailable, match="it is UNAVAILABLE"):
        kind.one(kind.retrieval, target, lambda client: client.get_series("x"), retry=QUICK)
    assert len(script.calls) == 3


def test_without_retries_the_first_failure_is_told(kind: Kind, script: Script, target: str) -> None:
    script.failures = [status("UNAVAILABLE", retry_after=0.0)]
    with pytest.raises(errors.Unavailable):
        kind.one(kind.retrieval, target, lambda client: client.get_series("x"), retry=Retry.none())
    assert len(script.calls) == 1


def test_what_may_have_been_done_is_not_done_again(kind: Kind, script: Script, target: str) -> None:
    script.failures = [status("UNAVAILABLE")]
    with pytest.raises(errors.Unavailable):
        kind.one(kind.retrieval, target, lambda client: client.delete_series("x"), retry=QUICK)
    assert len(script.calls) == 1


def test_what_the_server_has_refused_to_do_is_asked_again(kind: Kind, script: Script, target: str) -> None:
    script.failures = [status("UNAVAILABLE", retry_after=0.0, reason="DRAINING")]
    assert kind.one(kind.retrieval, target, lambda client: client.delete_series("x"), retry=QUICK) == 3
    assert len(script.calls) == 2


def test_a_series_is_made_again_under_the_same_request_id(kind: Kind, script: Script, target: str) -> None:
    script.failures = [status("UNAVAILABLE")] * 2
    kind.one(kind.retrieval, target, lambda client: client.create_series("x"), retry=QUICK)
    ids = [request.request_id for request in script.calls]
    assert len(ids) == 3
    assert len(set(ids)) == 1
    assert ids[0]


def test_a_series_without_a_request_id_is_not_made_again(kind: Kind, script: Script, target: str) -> None:
    script.failures = [status("UNAVAILABLE")]
    with pytest.raises(errors.Unavailable):
        kind.one(kind.retrieval, target, lambda client: client.create_series("x", request_id=""), retry=QUICK)
    assert len(script.calls) == 1


def test_a_list_goes_on_where_it_failed(kind: Kind, script: Script, target: str) -> None:
    script.failures = [status("UNAVAILABLE")]
    found = kind.all(kind.retrieval, target, lambda client: client.list_series(), retry=QUICK)
    assert [one.id for one in found] == ["s", "s2", "s3"]
    assert [request.page_token for request in script.calls] == ["", "", "2", "3"]


def test_a_download_that_breaks_off_is_made_again_whole(kind: Kind, script: Script, target: str) -> None:
    script.breaks = [1]
    picture = kind.one(kind.retrieval, target, lambda client: client.download("s", "r"), retry=QUICK)
    assert picture.data == b"abcdef"
    assert len(script.streams) == 2


def test_a_hook_may_give_up(kind: Kind, script: Script, target: str) -> None:
    def hook(told: Retrying) -> None:
        raise InterruptedError(told.method)

    script.failures = [status("UNAVAILABLE")]
    with pytest.raises(InterruptedError, match="GetSeries"):
        kind.one(kind.retrieval, target, lambda client: client.get_series("x"), retry=Retry(on_retry=hook))


# -- what goes along


def test_a_token_and_a_callers_name_go_along(kind: Kind, script: Script, target: str) -> None:
    kind.one(kind.retrieval, target, lambda client: client.get_series("x"), token="secret", caller="me")
    assert script.metadata[0]["authorization"] == "Bearer secret"
    assert script.metadata[0]["panelhue-caller"] == "me"


# -- deadlines


def test_a_call_ends_at_its_deadline(kind: Kind, script: Script, target: str) -> None:
    def ask(seconds: float) -> None:
        with pytest.raises(errors.Timeout):
            kind.one(kind.retrieval, target, lambda client: client.get_series("x", timeout=seconds))

    late(script, ask)


def test_the_clients_deadline_holds_where_a_call_names_none(kind: Kind, script: Script, target: str) -> None:
    script.hold = True
    with pytest.raises(errors.Timeout):
        kind.one(kind.retrieval, target, lambda client: client.get_series("x"), timeout=0.2)


def test_nobody_waits_in_vain_for_a_moment_behind_the_deadline(kind: Kind, script: Script, target: str) -> None:
    script.failures = [status("UNAVAILABLE", retry_after=500.0)]
    retry, told = hooked(within=None)
    with pytest.raises(errors.Unavailable):
        kind.one(kind.retrieval, target, lambda client: client.get_series("x"), retry=retry)
    assert told == []


def test_a_stream_ends_at_its_deadline(kind: Kind, script: Script, target: str) -> None:
    script.hold = True
    pages = [t.PageFile("a", b"x")]
    with pytest.raises(errors.Timeout):
        kind.all(kind.colorizer, target, lambda client: client.colorize(pages, timeout=0.2))
