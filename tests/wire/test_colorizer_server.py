"""The colouriser server over gRPC: what it says of itself and of its back-ends, and the command that starts it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from panelhue.colorizer.v1 import colorizer_pb2 as pb
from panelhue.colorizer.v1 import colorizer_pb2_grpc as pb_grpc
from tests.wire.colorizer_live import stub_of
from tests.wire.colorizer_talk import status_of
from tests.wire.conftest import RunningServer

SERVICE = "panelhue.colorizer.v1.ColorizerService"


@pytest.fixture(scope="module")
def stub(colorizer_server: RunningServer) -> Iterator[pb_grpc.ColorizerServiceStub]:
    with stub_of(colorizer_server) as made:
        yield made


# --- unary calls ------------------------------------------------------------------------------------------------------


def test_list_backends_gives_all_cards_by_name(stub):
    response = stub.ListBackends(pb.ListBackendsRequest())
    names = [backend.name for backend in response.backends]
    assert names == sorted(names)
    assert {"exemplar", "tint", "probe", "missing", "cuda-only", "unloadable"} <= set(names)
    assert response.default_backend == "probe"


def test_a_card_comes_whole(stub):
    card = stub.GetBackend(pb.GetBackendRequest(name="probe")).backend
    assert (card.version, card.min_side, card.max_pixels, card.hits_per_corner) == ("7", 24, 4_000_000, 2)
    assert list(card.inputs) == ["references", "hints", "palette", "seed", "steps", "preview"]
    assert (card.code_licence, card.weights_licence) == ("Apache-2.0", "CC0-1.0")
    assert dict(card.weights_sha256) == {"weights.bin": "00" * 32}
    assert set(card.parameters) == {"seconds", "trace", "fault", "go"}
    assert card.available
    assert not card.unavailable_reason


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing", "unobtainium"),
        ("cuda-only", "needs a cuda device"),
        ("tests.wire.colorizer_backends:HIDDEN_IMPORT", "AttributeError"),
    ],
)
def test_a_backend_that_cannot_be_used_is_listed_with_the_reason(stub, name, says):
    card = stub.GetBackend(pb.GetBackendRequest(name=name)).backend
    assert not card.available
    assert says in card.unavailable_reason


def test_an_unknown_backend_is_not_found(stub):
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetBackend(pb.GetBackendRequest(name="nobody"))
    status = status_of(caught.value)
    assert (status.code, status.reason, status.domain) == (grpc.StatusCode.NOT_FOUND, "BACKEND_NOT_FOUND", "panelhue")


def test_server_info_states_limits(stub):
    info = stub.GetServerInfo(pb.GetServerInfoRequest())
    # One for those in this server, and one for incontext, which has a process of its own; each with a line of 17.
    assert (info.workers, info.queue_capacity, info.has_retrieval) == (2, 34, False)
    assert (info.max_picture_bytes, info.max_picture_pixels) == (64 << 20, 100_000_000)
    assert info.version


def test_health_says_serving(colorizer_server):
    with grpc.insecure_channel(colorizer_server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(service=SERVICE)).status == 1


def test_reflection_lists_the_service(colorizer_server):
    with grpc.insecure_channel(colorizer_server.address) as channel:
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (response,) = reflection.ServerReflectionInfo(iter([request]))
    assert SERVICE in [service.name for service in response.list_services_response.service]


# --- the command ------------------------------------------------------------------------------------------------------


def test_settings_are_printed_at_start(colorizer_server):
    first = json.loads(colorizer_server.log.read_text().splitlines()[0])
    assert first["event"] == "settings"
    assert first["default_backend"] == "probe"


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "panelhue", "colorizer-server", *arguments], capture_output=True, text=True, timeout=240
    )


def test_a_default_backend_that_is_not_there_stops_the_start():
    done = command("--listen", "127.0.0.1:0", "--backend", "nobody")
    assert done.returncode == 1
    assert "BACKEND_NOT_FOUND: no back-end 'nobody'" in done.stderr


def test_wrong_settings_are_all_named():
    done = command("--workers", "0", "--set", "queue=-1")
    assert done.returncode == 2
    assert "setting workers:" in done.stderr
    assert "setting queue:" in done.stderr


def test_the_settings_can_be_read_without_starting():
    done = command("--show-settings")
    assert done.returncode == 0
    assert "page_seconds = 600.0" in done.stdout
