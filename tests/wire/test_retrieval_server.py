"""The retrieval server's process as a caller meets it: limits, health, restarts, draining, a full disk, settings."""

from __future__ import annotations

import io
import signal
import threading
import time

import grpc
import numpy as np
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from PIL import Image

from panelhue.retrieval.v1 import retrieval_pb2 as pb
from tests.wire import speaking
from tests.wire.conftest import END_SECONDS
from tests.wire.speaking import adding, answer, asking, chunks, get, header, picture, refused, stub_of

SERVICES = ["panelhue.retrieval.v1.RetrievalService", "panelhue.retrieval.v1.MaintenanceService"]
Status = pb.AddReferencesResponse

stub, series = speaking.stub, speaking.series  # fixtures


def test_the_server_tells_its_limits(stub):
    info = stub.GetServerInfo(pb.GetServerInfoRequest())
    assert info.default_embedder in info.embedders
    assert info.max_picture_bytes == 64 << 20
    assert info.version
    assert info.faiss.endswith("pu)")


@pytest.mark.parametrize("service", SERVICES)
def test_health_of_a_service_says_serving(retrieval_server, service):
    with grpc.insecure_channel(retrieval_server.address) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        assert health_pb2_grpc.HealthStub(channel).Check(request).status == health_pb2.HealthCheckResponse.SERVING


def test_health_of_the_server_says_serving_once_the_embedder_is_there(retrieval_server):
    with grpc.insecure_channel(retrieval_server.address) as channel:
        states = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=""), timeout=240)
        assert any(state.status == health_pb2.HealthCheckResponse.SERVING for state in states)


def test_reflection_lists_every_service(retrieval_server):
    with grpc.insecure_channel(retrieval_server.address) as channel:
        assert set(SERVICES) <= set(ProtoReflectionDescriptorDatabase(channel).get_services())


def test_a_second_server_on_one_folder_names_the_first(start_retrieval):
    first = start_retrieval()
    first.address  # noqa: B018 - waits
    second = start_retrieval()
    assert second.process.wait(END_SECONDS) == 1
    assert "DATA_FOLDER_IN_USE" in second.log.read_text()
    assert str(first.process.pid) in second.log.read_text()
    assert "Traceback" not in second.log.read_text()


def test_everything_is_there_after_a_restart(start_retrieval):
    first = start_retrieval()
    with stub_of(first.address) as stub:
        stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(id="s", labels={"a": "b"})))
        items = [(picture(n), pb.Reference(chapter=n, tags=[f"n{n}"])) for n in range(5)]
        assert len(list(stub.AddReferences(adding("s", items)))) == 5
        before, hits = get(stub, "s"), answer(stub.RetrieveContext(asking("s", picture(2))))[0].hits
    assert first.stop() == 0
    with stub_of(start_retrieval().address) as stub:
        assert get(stub, "s") == before
        assert list(answer(stub.RetrieveContext(asking("s", picture(2))))[0].hits) == list(hits)


def test_a_changed_embedder_is_refused_by_both_names(start_retrieval):
    first = start_retrieval()
    with stub_of(first.address) as stub:
        made = stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(id="s"))).series.embedding_space.id
    first.stop()
    with stub_of(start_retrieval("--set", "grey_twin=false").address) as stub:
        other = stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(id="t"))).series.embedding_space.id
        assert other != made
        for call in (
            lambda: stub.AddReferences(adding("s", [])),
            lambda: stub.RetrieveContext(asking("s", picture(0))),
        ):
            with refused(StatusCode.FAILED_PRECONDITION, "EMBEDDING_SPACE_CHANGED") as refusal:
                list(call())
            assert made in refusal.message
            assert other in refusal.message


def test_sigterm_lets_a_stream_finish(start_retrieval):
    server = start_retrieval("--set", "drain_seconds=240")
    with stub_of(server.address) as stub:
        stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(id="s")))
        told = threading.Event()

        def requests():
            yield from adding("s", [picture(0)])
            told.wait(120)
            yield header("late")
            yield from chunks("late", picture(1))

        responses = stub.AddReferences(requests())
        assert next(responses).status == Status.STATUS_ADDED
        server.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 120
        while "draining" not in server.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        told.set()
        assert [r.status for r in responses] == [Status.STATUS_ADDED]
    assert server.process.wait(END_SECONDS) == 0


def test_a_full_series_is_refused_while_reading_goes_on(start_retrieval):
    flags = ("--set", "map_bytes=1048576", "--set", "max_map_bytes=4194304")
    with stub_of(start_retrieval(*flags).address) as stub:
        stub.CreateSeries(pb.CreateSeriesRequest(series=pb.Series(id="s")))
        rng = np.random.default_rng(0)
        noise = []
        for _ in range(8):
            out = io.BytesIO()
            Image.fromarray(rng.integers(0, 255, (512, 512, 3), dtype=np.uint8)).save(out, "PNG")
            noise.append(picture(1) + out.getvalue())
        added = []
        with refused(StatusCode.RESOURCE_EXHAUSTED, "MAP_FULL"):
            added.extend(response.reference.id for response in stub.AddReferences(adding("s", noise)))
        assert 1 <= len(added) < 8
        listed = stub.ListReferences(pb.ListReferencesRequest(series_id="s")).references
        assert {r.id for r in listed} == set(added)
        assert answer(stub.RetrieveContext(asking("s", picture(1))))[0].hits


def test_a_caller_that_goes_leaves_the_server_well(stub, series):
    call = stub.AddReferences(adding(series, [picture(n) for n in range(20)]))
    next(call)
    call.cancel()
    (response,) = stub.AddReferences(adding(series, [picture(50)]))
    assert response.status == Status.STATUS_ADDED
    stats = stub.GetSeriesStats(pb.GetSeriesStatsRequest(series_id=series))
    assert stats.patches == 5 * stats.references == 5 * stats.generation


def test_wrong_settings_are_all_named(start_retrieval):
    server = start_retrieval("--set", "workers=0", "--set", "nonsense=1", "--set", "idle_seconds=never")
    assert server.process.wait(END_SECONDS) == 2
    text = server.log.read_text()
    assert all(name in text for name in ("workers", "nonsense", "idle_seconds"))
