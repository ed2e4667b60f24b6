"""The promises of a back-end that is reached over gRPC: those of every back-end, and those of the wire.

    report = check_server("127.0.0.1:50052", "tint")
    assert not report.broken, report.text()

An adapter makes the server look like a back-end of this process, so that `colorizer.conformance` can put it to its
checks; the checks below are about what only a server can promise.
"""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import grpc
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from colorizer.backend import BackendSpec, Card
from colorizer.conformance import Broken, Report, check_backend
from colorizer.relay import Answer, decode_card, options_of, page_requests
from colorizer.statuses import reason_of
from colorizer.tasks import FoundHit, Options, PageOutcome, PageTask, Preview, Stepped
from colorizer.types import Job, Result
from panelhue.colorizer.v1 import colorizer_pb2 as pb
from panelhue.colorizer.v1 import colorizer_pb2_grpc as pb_grpc
from serving.chunks import CHUNK_BYTES
from serving.errors import ServiceError, Unavailable
from serving.token import bearer

_LEFT_OUT = {
    "inputs_are_unchanged": "the server has copies",
    "no_hidden_state": "a server has one instance; start it twice and compare",
    "close_twice": "a client does not close a server",
}


@dataclass(frozen=True)
class Target:
    """A server and one of its back-ends."""

    address: str  # HOST:PORT, or unix:PATH
    stub: Any
    card: Card
    metadata: tuple[tuple[str, str], ...]  # of every call
    seconds: float  # the longest that a page may take
    parameters: Mapping[str, str]  # of every page


@contextmanager
def reached(
    address: str, backend: str, token: str, seconds: float, parameters: Mapping[str, str] | None = None
) -> Iterator[Target]:
    """The server, connected.

    Raises:
        Unavailable: it does not answer, or refuses.
    """
    metadata = (bearer(token),) if token else ()
    with grpc.insecure_channel(address, options=[("grpc.default_authority", "localhost")]) as channel:
        stub = pb_grpc.ColorizerServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
        try:
            if not backend:
                listed = stub.ListBackends(pb.ListBackendsRequest(), metadata=metadata, timeout=seconds)
                backend = listed.default_backend
            request = pb.GetBackendRequest(name=backend)
            found = stub.GetBackend(request, metadata=metadata, timeout=seconds, wait_for_ready=True).backend
        except grpc.RpcError as error:
            said = f"{error.code().name}: {error.details()}"
            raise Unavailable(f"no card of back-end {backend!r} from {address}: {said}") from error
        yield Target(address, stub, decode_card(found, found.name).card, metadata, seconds, parameters or {})


def check_server(
    address: str,
    backend: str = "",
    token: str = "",
    seconds: float = 120.0,
    only: Sequence[str] | None = None,
    parameters: Mapping[str, str] | None = None,
) -> Report:
    """Puts a server's back-end to all checks.

    Args:
        address: "HOST:PORT" or "unix:PATH".
        backend: its name; "": the server's default.
        token: that the server asks for; "": none.
        seconds: the longest that a page may take.
        only: names of checks; None: all.
        parameters: of every page.

    Raises:
        Unavailable: it does not answer, or has no such back-end.

    Cost: some fifty small pages.
    """
    from colorizer import conformance_service  # here, because that module imports this one

    with reached(address, backend, token, seconds, parameters) as target:
        spec = BackendSpec(target.card, lambda _: WireBackend(target))
        report = check_backend(spec, only=only, leave_out=_LEFT_OUT, parameters=parameters)
        return Report(report.backend, (*report.findings, *conformance_service.findings(target, bool(token), only)))


class WireBackend:
    """Meets `Backend` by ColorizePages; a job's progress is called as the server's messages come."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def colorize(self, jobs: Sequence[Job]) -> Iterator[Result]:
        """One result for each job; jobs in a row with the same options go through one stream."""
        if not jobs:
            with conversation(self._target, [pb.ColorizePagesRequest(options=pb.ColorizeOptions())]) as messages:
                for message in messages:
                    raise Broken(f"expected nothing from a stream without a page, got {message.WhichOneof('message')}")
        pairs = [(job, task_of(job, self._target.card)) for job in jobs]
        for _, group in itertools.groupby(pairs, key=lambda pair: _shared(pair[1]).SerializeToString()):
            yield from self._together(list(group))

    def close(self) -> None:
        """The server goes on."""

    def _together(self, pairs: Sequence[tuple[Job, PageTask]]) -> Iterator[Result]:
        keys = [f"page {index}" for index in range(len(pairs))]
        requests = [pb.ColorizePagesRequest(options=_shared(pairs[0][1]))]
        for key, (_, task) in zip(keys, pairs, strict=True):
            requests += page_requests(task, key)
        outcomes = exchange(self._target, requests, dict(zip(keys, pairs, strict=True)))
        for index, (key, outcome) in enumerate(outcomes):
            if key != keys[index]:
                raise Broken(f"expected {keys[index]!r} to be answered next, got {key!r}")
            if isinstance(outcome, ServiceError):
                raise outcome
            yield _result(pairs[index][0], outcome)


def _shared(task: PageTask) -> pb.ColorizeOptions:
    """The options of a stream; each page has its own seed."""
    message = options_of(task)
    message.seed = 0
    return message


def task_of(job: Job, card: Card, **options: object) -> PageTask:
    """The job as a page's task: the back-end's own luma, and every page coloured."""
    plain = Options(
        colour_pages="recolour",
        luma="backend",
        steps=job.steps,
        preview_every=job.preview_every,
        # A server refuses parameters that its card does not list.
        parameters={name: value for name, value in job.parameters.items() if name in card.parameters},
    )
    hits, pictures = _context(job)
    return PageTask(
        backend=card.name,
        data=png(job.page),
        hits=hits,
        pictures=pictures,
        hints=job.hints,
        palette=job.palette,
        seed=job.seed,
        options=replace(plain, **options),  # type: ignore[arg-type]  # the fields of Options, by name
    )


def _context(job: Job) -> tuple[tuple[FoundHit, ...], dict[str, bytes]]:
    hits, pictures = [], {}
    for corner, row in enumerate(job.context):
        for rank, hit in enumerate(row):
            name = f"hit {corner} {rank}"
            pictures[name] = png(hit.pixels)
            hits.append(
                FoundHit(
                    corner=corner,
                    rank=rank,
                    score=hit.score,
                    reference_id=hit.reference_id,
                    picture=name,
                    picture_box=None,
                    box=hit.box,
                    reference_size=hit.reference_size,
                    depth=hit.depth,
                    chapter=hit.chapter,
                )
            )
    return tuple(hits), pictures


@contextmanager
def conversation(
    target: Target, requests: Iterable[pb.ColorizePagesRequest], pages: int = 1
) -> Iterator[Iterator[pb.ColorizePagesResponse]]:
    """The answers to a stream, which is cancelled on the way out."""
    limit = target.seconds * pages
    call = target.stub.ColorizePages(iter(requests), metadata=target.metadata, timeout=limit)
    try:
        yield call
    finally:
        call.cancel()


def exchange(
    target: Target, requests: Iterable[pb.ColorizePagesRequest], pages: dict[str, tuple[Job, PageTask]]
) -> Iterator[tuple[str, PageOutcome | ServiceError]]:
    """Each page's outcome or failure by its key, in the order in which they come; the jobs' callbacks are called.

    Raises:
        Broken: a message breaks the contract, or a page is not answered.
        Exception: whatever a job's callback raises; the stream is cancelled.
    """
    answers = {key: Answer(task, key) for key, (_, task) in pages.items()}
    with conversation(target, requests, len(pages)) as messages:
        for message in messages:
            body = getattr(message, message.WhichOneof("message") or "", None)
            key = getattr(body, "page_key", "") or getattr(body, "key", "")
            if key not in answers:
                raise Broken(f"expected a message for one of the pages under way, got one for {key!r}")
            if len(message.chunk.data) > CHUNK_BYTES:
                raise Broken(f"expected chunks of at most {CHUNK_BYTES} bytes, got {len(message.chunk.data)}")
            try:
                event = answers[key].take(message)
            except ServiceError as error:
                if error.metadata.get("cause") == "CONTRACT":
                    raise Broken(error.message) from error
                del answers[key]
                yield key, error
                continue
            _call_back(pages[key][0], event)
            if outcome := answers[key].outcome:
                del answers[key]
                yield key, outcome
    if answers:
        raise Broken(f"expected an answer for every page, got none for {', '.join(answers)}")


def _call_back(job: Job, event: Stepped | Preview | None) -> None:
    if isinstance(event, Stepped):
        job.progress(event.step, event.steps)
    elif isinstance(event, Preview) and job.preview:
        job.preview(pixels_of(event.data))


def _result(job: Job, outcome: PageOutcome) -> Result:
    ranks = max((len(corner) for corner in job.context), default=0)
    used = np.zeros((len(job.context), ranks), np.bool_)
    flags = iter(outcome.used)
    for corner, row in enumerate(job.context):
        for rank in range(len(row)):
            used[corner, rank] = next(flags, False)
    return Result(pixels_of(outcome.data), used=used)


def png(pixels: UInt8[np.ndarray, "..."]) -> bytes:
    """The picture as a PNG file, grey or RGB as it is."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def pixels_of(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """A picture file's RGB pixels."""
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGB"))


def status_of(call: Callable[[], object]) -> tuple[str, str]:
    """Code and reason of a call's failure, or OK."""
    try:
        result = call()
        if isinstance(result, Iterator):
            for _ in result:
                pass
    except grpc.RpcError as error:
        return error.code().name, reason_of(error)
    return "OK", ""


def digest(data: bytes) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(data).hexdigest()
