"""That every RPC of the retrieval server's services is answered."""

from __future__ import annotations

import pytest

from panelhue.retrieval.v1 import maintenance_pb2, maintenance_pb2_grpc, retrieval_pb2, retrieval_pb2_grpc
from retrieval import maintenance_service, service
from retrieval.config import RetrievalSettings
from retrieval.engine import Engine
from retrieval.server import services

SERVICERS = [
    (retrieval_pb2, retrieval_pb2_grpc.RetrievalServiceServicer, service.RetrievalServicer),
    (maintenance_pb2, maintenance_pb2_grpc.MaintenanceServiceServicer, maintenance_service.MaintenanceServicer),
]


@pytest.mark.parametrize(("module", "generated", "ours"), SERVICERS)
def test_every_rpc_has_a_handler_of_its_own(module, generated, ours):
    (described,) = module.DESCRIPTOR.services_by_name.values()
    for rpc in described.methods:
        assert getattr(ours, rpc.name) is not getattr(generated, rpc.name), rpc.name


def test_the_server_serves_every_service_of_the_contract(tmp_path):
    described = [module.DESCRIPTOR.services_by_name.values()[0].full_name for module, *_ in SERVICERS]
    assert [one.name for one in services(Engine(RetrievalSettings(data_dir=tmp_path)))] == described
