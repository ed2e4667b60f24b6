"""What the README and the protos promise is read, so that it stays true; test_guides.py runs what they say to type."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from colorizer.config import ColorizerSettings
from panelhue.colorizer.v1 import colorizer_pb2
from panelhue.retrieval.v1 import maintenance_pb2, retrieval_pb2
from retrieval.config import RetrievalSettings

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def test_the_readme_begins_with_the_two_commands():
    lines = [line.strip() for line in README.splitlines() if line.strip()]
    assert lines[1].startswith("make demo")
    assert lines[2].startswith("make test")


@pytest.mark.parametrize("module", [retrieval_pb2, maintenance_pb2, colorizer_pb2])
def test_every_rpc_lists_its_errors(module):
    text = (ROOT / "protos" / module.DESCRIPTOR.name).read_text()
    (service,) = module.DESCRIPTOR.services_by_name.values()
    for rpc in service.methods:
        comment = re.search(rf"((?:  //[^\n]*\n)+)  rpc {rpc.name}\(", text)
        assert comment, rpc.name
        assert "Errors:" in comment.group(1), rpc.name


@pytest.mark.parametrize("settings", [RetrievalSettings, ColorizerSettings])
def test_every_setting_is_explained(settings):
    for name, field in settings.model_fields.items():
        assert field.description, name


def test_every_link_of_the_documents_leads_somewhere():
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
