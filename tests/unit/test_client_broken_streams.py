"""Streams of both kinds of clients that are refused, break off in the middle or are left, and what is sent again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panelhue import errors
from panelhue import types as t
from panelhue.retries import Retry, Retrying
from tests.unit import client_faults
from tests.unit.client_faults import (
    PATIENCE,
    QUICK,
    Asyncio,
    Blocking,
    Kind,
    Script,
    ends,
    hooked,
    pages,
    serving,
    status,
)

script, target = client_faults.script, client_faults.target  # fixtures


@pytest.fixture(params=[Blocking, Asyncio], ids=["blocking", "asyncio"])
def kind(request: pytest.FixtureRequest) -> Kind:
    made: Kind = request.param()
    return made


def test_a_stream_that_breaks_off_goes_on_with_the_pages_that_wait(kind: Kind, script: Script, target: str) -> None:
    script.breaks = [2, 1]
    retry, told = hooked()
    made = kind.all(kind.colorizer, target, lambda client: client.colorize(pages(*"abcd"), window=1), retry=retry)
    assert ends(made) == [(key, "Finished") for key in "abcd"]
    assert script.streams == [["a", "b", "c"], ["c", "d"], ["d"]]
    assert [(one.method, one.attempt) for one in told] == [("ColorizePages", 1)] * 2
    assert all(1 <= one.waiting <= 2 for one in told)  # one under way, and perhaps one that waits for its place
    assert [event.picture.data for event in made if isinstance(event, t.Finished)] == [
        f"data of {key}".encode() for key in "abcd"
    ]


def test_each_step_forward_gives_all_attempts_again(kind: Kind, script: Script, target: str) -> None:
    script.breaks = [1] * 7  # more than there are attempts, but each stream finishes a page
    made = kind.all(kind.colorizer, target, lambda client: client.colorize(pages(*"abcdefgh")), retry=QUICK)
    assert ends(made) == [(key, "Finished") for key in "abcdefgh"]


def test_a_stream_that_gets_nowhere_is_given_up(kind: Kind, script: Script, target: str) -> None:
    script.breaks = [0] * 5
    with pytest.raises(errors.Unavailable):
        kind.all(kind.colorizer, target, lambda client: client.colorize(pages("a")), retry=QUICK)
    assert len(script.streams) == 3


def test_a_stream_that_is_refused_while_it_is_written_to_tells_why(kind: Kind, script: Script, target: str) -> None:
    files = [t.ReferenceFile(str(n), bytes(1_000_000)) for n in range(3)]
    for _ in range(25):  # whichever comes first, the refusal or the end of a write
        script.failures = [status("NOT_FOUND", reason="SERIES_NOT_FOUND")]
        with pytest.raises(errors.NotFound) as caught:
            kind.all(kind.retrieval, target, lambda client: client.add_references("s", files), retry=QUICK)
        assert caught.value.reason == "SERIES_NOT_FOUND"


def test_a_full_queue_at_the_beginning_is_waited_for(kind: Kind, script: Script, target: str) -> None:
    script.failures = [status("RESOURCE_EXHAUSTED", retry_after=0.05, reason="QUEUE_FULL")]
    retry, told = hooked()
    made = kind.all(kind.colorizer, target, lambda client: client.colorize(pages("a")), retry=retry)
    assert ends(made) == [("a", "Finished")]
    assert [one.seconds >= 0.05 for one in told] == [True]


def test_a_page_that_fails_for_the_moment_is_sent_again_behind_the_others(
    kind: Kind, script: Script, target: str
) -> None:
    script.page_failures = {"a": 1}
    made = kind.all(kind.colorizer, target, lambda client: client.colorize(pages(*"abc")), retry=QUICK)
    assert ends(made) == [("b", "Finished"), ("c", "Finished"), ("a", "Finished")]
    assert script.streams == [["a", "b", "c"], ["a"]]


def test_a_page_that_fails_each_time_is_told_as_failed(kind: Kind, script: Script, target: str) -> None:
    script.page_failures = {"a": 99}
    made = kind.all(kind.colorizer, target, lambda client: client.colorize(pages(*"ab")), retry=QUICK)
    assert ends(made) == [("b", "Finished"), ("a", "Failed")]
    assert script.streams == [["a", "b"], ["a"], ["a"]]


@pytest.fixture(scope="module")
def lasting() -> Iterator[tuple[Script, str]]:
    script = Script()
    with serving(script) as address:
        yield script, address


@pytest.mark.parametrize("kind", [Blocking(), Asyncio()], ids=["blocking", "asyncio"])
@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 5), max_size=6),
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 2)),
    st.integers(1, 7),
)
def test_wherever_a_stream_breaks_each_page_is_told_once(
    lasting: tuple[Script, str], kind: Kind, breaks: list[int], failures: dict[str, int], window: int
) -> None:
    script, target = lasting
    script.breaks, script.page_failures = list(breaks), dict(failures)
    retry = Retry(attempts=20, first=0.0)
    made = kind.all(
        kind.colorizer, target, lambda client: client.colorize(pages(*"abcdef"), window=window), retry=retry
    )
    assert sorted(ends(made)) == [(key, "Finished") for key in "abcdef"]


def test_a_page_whose_context_cannot_be_had_fails_alone(kind: Kind, script: Script, target: str) -> None:
    def context(_: bytes) -> t.Context:
        raise errors.NotFound("no such series")

    given = [t.PageFile("a", b"x", context=context), *pages("b")]
    made = kind.all(kind.colorizer, target, lambda client: client.colorize(given), retry=QUICK)
    assert sorted(ends(made)) == [("a", "Failed"), ("b", "Finished")]
    assert script.streams == [["b"]]


def test_references_without_an_answer_are_sent_again(kind: Kind, script: Script, target: str) -> None:
    script.breaks = [2]
    files = [t.ReferenceFile(f"name {n}", str(n).encode()) for n in range(4)]
    made = kind.all(kind.retrieval, target, lambda client: client.add_references("s", files), retry=QUICK)
    assert [(one.name, one.status) for one in made] == [(file.name, t.AddStatus.ADDED) for file in files]
    assert script.streams[1] == ["2", "3"]


def test_a_stream_whose_end_alone_is_lost_is_not_made_again(kind: Kind, script: Script, target: str) -> None:
    script.breaks = [3]  # behind the last answer
    files = [t.ReferenceFile(f"name {n}", str(n).encode()) for n in range(3)]
    made = kind.all(kind.retrieval, target, lambda client: client.add_references("s", files), retry=QUICK)
    assert len(made) == 3
    assert len(script.streams) == 1


def test_imported_references_without_an_answer_are_sent_again(kind: Kind, script: Script, target: str) -> None:
    script.breaks = [1000]
    rows, boxes = np.ones((1, 4)), (t.Box(0, 0, 1, 1),)
    given = (t.ImportedReference(f"name {n}", str(n).encode(), rows, boxes, 5, 6) for n in range(1500))
    made = kind.all(
        kind.retrieval,
        target,
        lambda client: client.import_references("s", given, embedding_space_id="e"),
        most=2000,
        retry=QUICK,
    )
    assert [one.name for one in made] == [f"name {n}" for n in range(1500)]
    assert [len(seen) for seen in script.streams] == [1000, 500]


def test_a_file_is_read_again_for_another_attempt(kind: Kind, script: Script, target: str, tmp_path: Path) -> None:
    script.breaks = [0]
    (tmp_path / "a").write_bytes(b"from a file")
    files = [t.ReferenceFile("a", tmp_path / "a")]
    made = kind.all(kind.retrieval, target, lambda client: client.add_references("s", files), retry=QUICK)
    assert [one.status for one in made] == [t.AddStatus.ADDED]
    assert script.streams == [["from a file"]] * 2


@pytest.mark.parametrize("error", [KeyError("mine"), errors.Unavailable("of another server")], ids=["any", "ours"])
def test_what_the_callers_iterator_raises_is_raised_as_it_is(
    kind: Kind, script: Script, target: str, error: Exception
) -> None:
    def given() -> Iterator[t.PageFile]:
        yield from pages("a")
        raise error

    again: list[Retrying] = []
    retry = dataclasses.replace(QUICK, on_retry=again.append)
    with pytest.raises(type(error)) as caught:
        kind.all(kind.colorizer, target, lambda client: client.colorize(given()), retry=retry)
    assert caught.value is error
    assert not again
    assert len(script.streams) <= 1  # none where the call was cancelled before it reached the server


def test_leaving_a_stream_early_cancels_it(kind: Kind, script: Script, target: str) -> None:
    def given() -> Iterator[t.PageFile]:
        yield from pages("a")
        script.ended.wait(PATIENCE)  # so that this side stays open

    found = kind.all(kind.colorizer, target, lambda client: client.colorize(given()), most=1)
    assert [type(one) for one in found] == [t.Accepted]
    assert script.ended.wait(PATIENCE)
