"""The promises that only a server can keep: health, statuses, pages that fail alone, forms of output."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image

from colorizer.conformance import Finding, coloured, drawing, drawn_context, expect, find
from colorizer.conformance_wire import Target, conversation, exchange, pixels_of, png, status_of, task_of
from colorizer.luma import luma_of
from colorizer.relay import options_of, page_requests
from colorizer.tasks import PageOutcome, PageTask
from colorizer.types import Job
from panelhue.colorizer.v1 import colorizer_pb2 as pb
from serving.errors import InvalidInput, ServiceError

_FREE_SECONDS = 15.0  # in which a cancelled page must have left
_LOOK_SECONDS = 0.1

Check = Callable[[Target], None]
_CHECKS: dict[str, tuple[str, Check]] = {}


def _promise(sentence: str) -> Callable[[Check], Check]:
    def register(check: Check) -> Check:
        _CHECKS[check.__name__.removeprefix("_")] = (sentence, check)
        return check

    return register


def findings(target: Target, has_token: bool, only: Sequence[str] | None) -> Iterator[Finding]:
    """What becomes of the checks of a server."""
    for name, (sentence, check) in _CHECKS.items():
        if only is not None and name not in only:
            continue
        if name == "token_is_asked_for" and not has_token:
            yield Finding(name, sentence, unchecked="no token was given")
        else:
            yield find(name, sentence, partial(check, target))


def service_check_names() -> tuple[str, ...]:
    """The names of these checks, in order."""
    return tuple(_CHECKS)


def _job(target: Target, seed: int = 1) -> Job:
    side = target.card.min_side
    width, height = max(96, side), max(72, side)
    return Job(
        page=drawing(width, height, seed),
        seed=seed,
        context=drawn_context(width, height, target.card.hits_per_corner or 1),
        parameters=dict(target.parameters),
    )


def _answers(target: Target, *tasks: PageTask) -> list[PageOutcome | ServiceError]:
    """What becomes of tasks with the same options, in one stream."""
    requests = [pb.ColorizePagesRequest(options=options_of(tasks[0]))]
    for index, task in enumerate(tasks):
        requests += page_requests(task, f"page {index}")
    pages = {f"page {index}": (_job(target), task) for index, task in enumerate(tasks)}
    return [outcome for _, outcome in exchange(target, requests, pages)]


def _outcome(target: Target, task: PageTask) -> PageOutcome:
    (outcome,) = _answers(target, task)
    if isinstance(outcome, ServiceError):
        raise outcome
    return outcome


@_promise("Health says SERVING, without a token.")
def _health_is_serving(target: Target) -> None:
    with grpc.insecure_channel(target.address, options=[("grpc.default_authority", "localhost")]) as channel:
        response = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=target.seconds)
    expect(response.status == health_pb2.HealthCheckResponse.SERVING, "health SERVING", response.status)


@_promise("Calls without the token, or with another, are UNAUTHENTICATED.")
def _token_is_asked_for(target: Target) -> None:
    for metadata in ((), (("authorization", "Bearer another"),)):
        stranger = replace(target, metadata=metadata)
        code, _ = status_of(lambda: target.stub.GetServerInfo(pb.GetServerInfoRequest(), metadata=metadata))  # noqa: B023
        expect(code == "UNAUTHENTICATED", "GetServerInfo to be UNAUTHENTICATED", code)
        code = _stream_status(stranger, [pb.ColorizePagesRequest(options=pb.ColorizeOptions())])
        expect(code == "UNAUTHENTICATED", "ColorizePages to be UNAUTHENTICATED", code)


def _stream_status(target: Target, requests: Sequence[pb.ColorizePagesRequest]) -> str:
    with conversation(target, requests) as messages:
        return status_of(lambda: messages)[0]


@_promise("The back-end is in the list, under the name of its card, and available.")
def _is_listed(target: Target) -> None:
    listed = target.stub.ListBackends(pb.ListBackendsRequest(), metadata=target.metadata, timeout=target.seconds)
    found = {backend.name: backend for backend in listed.backends}
    name = target.card.name
    expect(name in found, f"{name!r} among the back-ends", ", ".join(found) or "none")
    expect(found[name].available, "it to be available", found[name].unavailable_reason)


@_promise("An unknown back-end is NOT_FOUND.")
def _unknown_backend(target: Target) -> None:
    request = pb.GetBackendRequest(name="no such back-end")
    code, _ = status_of(lambda: target.stub.GetBackend(request, metadata=target.metadata))
    expect(code == "NOT_FOUND", "GetBackend to be NOT_FOUND", code)
    options = pb.ColorizePagesRequest(options=pb.ColorizeOptions(backend="no such back-end"))
    code = _stream_status(target, [options])
    expect(code == "NOT_FOUND", "ColorizePages to be NOT_FOUND", code)


@_promise("An unknown parameter is INVALID_ARGUMENT.")
def _unknown_parameter(target: Target) -> None:
    options = pb.ColorizeOptions(backend=target.card.name, parameters={"no such parameter": "1"})
    code = _stream_status(target, [pb.ColorizePagesRequest(options=options)])
    expect(code == "INVALID_ARGUMENT", "INVALID_ARGUMENT", code)


@_promise("A stream that does not begin with options is INVALID_ARGUMENT.")
def _options_come_first(target: Target) -> None:
    code = _stream_status(target, list(page_requests(task_of(_job(target), target.card), "page")))
    expect(code == "INVALID_ARGUMENT", "INVALID_ARGUMENT", code)


@_promise("A page that cannot be read fails alone, as IMAGE_UNREADABLE.")
def _a_bad_page_fails_alone(target: Target) -> None:
    good = task_of(_job(target), target.card)
    bad, after = _answers(target, replace(good, data=b"no picture at all"), good)
    reason = bad.reason if isinstance(bad, ServiceError) else "a result"
    expect(reason == "IMAGE_UNREADABLE", "reason IMAGE_UNREADABLE", reason)
    expect(isinstance(bad, InvalidInput), "the code of INVALID_ARGUMENT", type(bad).__name__)
    expect(isinstance(after, PageOutcome), "the next page to be done", after)


@_promise("A file of more than one chunk goes in and comes out whole.")
def _large_files(target: Target) -> None:
    side = max(640, target.card.min_side)
    noise = np.random.default_rng(3).integers(0, 256, (side, side), np.uint8)
    outcome = _outcome(target, task_of(replace(_job(target), page=noise, context=((),) * 4), target.card))
    shape = pixels_of(outcome.data).shape
    expect(shape == (side, side, 3), f"a picture of shape {(side, side, 3)}", shape)


@_promise("A page that is in colour already comes back as it is, byte for byte.")
def _colour_pages_are_kept(target: Target) -> None:
    job = _job(target)
    data = png(coloured(job.page.shape[1], job.page.shape[0], 5))
    task = replace(task_of(job, target.card, colour_pages="keep"), data=data)
    outcome = _outcome(target, task)
    expect(outcome.already_colour, "already_colour to be set", "it is not")
    expect(outcome.data == data, "the same bytes", "others")


@_promise("A page that is in colour already is an error PAGE_IN_COLOUR, when that is asked for.")
def _colour_pages_are_rejected(target: Target) -> None:
    job = _job(target)
    data = png(coloured(job.page.shape[1], job.page.shape[0], 5))
    (answer,) = _answers(target, replace(task_of(job, target.card, colour_pages="reject"), data=data))
    reason = answer.reason if isinstance(answer, ServiceError) else "a result"
    expect(reason == "PAGE_IN_COLOUR", "reason PAGE_IN_COLOUR", reason)


@_promise("The page's luma is kept to the bit, when that is asked for.")
def _luma_is_kept_when_asked_for(target: Target) -> None:
    job = _job(target)
    outcome = _outcome(target, task_of(job, target.card, luma="keep"))
    share = float(np.mean(luma_of(pixels_of(outcome.data)) != job.page))
    expect(share == 0, "the page's luma at every pixel", f"another at {share:.2%} of them")


@_promise("The picture comes as PNG, JPEG or lossless WebP, as asked for.")
def _output_forms(target: Target) -> None:
    job = _job(target)
    for form in ("PNG", "JPEG", "WEBP"):
        media_type = f"image/{form.lower()}"
        outcome = _outcome(target, task_of(job, target.card, media_type=media_type))
        with Image.open(io.BytesIO(outcome.data)) as image:
            size = (job.page.shape[1], job.page.shape[0])
            expect((image.format, image.size) == (form, size), f"{form} of {size}", f"{image.format} of {image.size}")


@_promise("The colour alone is an RGBA picture at full value, opaque where there is colour.")
def _chroma_only(target: Target) -> None:
    job = _job(target)
    outcome = _outcome(target, task_of(job, target.card, chroma_only=True))
    with Image.open(io.BytesIO(outcome.data)) as image:
        size = (job.page.shape[1], job.page.shape[0])
        expect((image.mode, image.size) == ("RGBA", size), f"RGBA of {size}", f"{image.mode} of {image.size}")
        layer = np.array(image)
    opaque = layer[..., 3] == 255
    expect(bool(np.isin(layer[..., 3], (0, 255)).all()), "alpha of 0 and 255 only", np.unique(layer[..., 3])[:8])
    full = layer[..., :3].max(axis=2)[opaque]
    expect(bool((full == 255).all()), "opaque pixels at full value", full[full < 255][:8])


@_promise("A cancelled page frees its place.")
def _a_cancelled_page_leaves(target: Target) -> None:
    before = _under_way(target)
    task = task_of(_job(target), target.card)
    requests = [pb.ColorizePagesRequest(options=options_of(task)), *page_requests(task, "page")]
    with conversation(target, requests) as messages:
        next(messages)
    deadline = time.monotonic() + _FREE_SECONDS
    while (now := _under_way(target)) > before:
        expect(time.monotonic() < deadline, f"at most {before} pages under way {_FREE_SECONDS:g} s after it", now)
        time.sleep(_LOOK_SECONDS)


def _under_way(target: Target) -> int:
    info = target.stub.GetServerInfo(pb.GetServerInfoRequest(), metadata=target.metadata, timeout=target.seconds)
    return int(info.queue_length)
