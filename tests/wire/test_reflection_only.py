"""A caller that has no stubs: it asks the servers for their contract by reflection and does the main job.

It runs in a process of its own that must not have loaded a single module of Panelhue.
"""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from tests.wire.conftest import RunningServer

CALLER = r"""
import hashlib, sys
import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

retrieval, colorizer, colour_file, grey_file, out_file = sys.argv[1:]
CHUNK = 200_000


class Service:
    def __init__(self, target, name):
        self.channel = grpc.insecure_channel(target)
        database = ProtoReflectionDescriptorDatabase(self.channel)
        assert name in database.get_services()
        self.name = name
        self.descriptor = DescriptorPool(database).FindServiceByName(name)

    def message(self, method, **fields):
        return GetMessageClass(self.descriptor.methods_by_name[method].input_type)(**fields)

    def call(self, method, requests):
        rpc = self.descriptor.methods_by_name[method]
        kind = ("stream" if rpc.client_streaming else "unary") + "_" + ("stream" if rpc.server_streaming else "unary")
        reply = GetMessageClass(rpc.output_type)
        stub = getattr(self.channel, kind)(
            f"/{self.name}/{method}",
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=reply.FromString,
        )
        return stub(requests if rpc.client_streaming else requests[0], timeout=240)


def chunks(key, data):
    for start in range(0, len(data), CHUNK):
        yield {"key": key, "data": data[start:start + CHUNK], "last": start + CHUNK >= len(data)}


colour, grey = open(colour_file, "rb").read(), open(grey_file, "rb").read()
pool = Service(retrieval, "panelhue.retrieval.v1.RetrievalService")
painter = Service(colorizer, "panelhue.colorizer.v1.ColorizerService")

made = pool.call("CreateSeries", [pool.message("CreateSeries", series={"id": "by-reflection"})])
assert made.series.id == "by-reflection", made

ask = lambda **fields: pool.message("AddReferences", **fields)
header = {"picture": {"key": "r"}, "reference": {"chapter": 1000, "page": 1}}
sent = [ask(options={"series_id": "by-reflection"}), ask(header=header), *(ask(chunk=c) for c in chunks("r", colour))]
(added,) = pool.call("AddReferences", iter(sent))
assert added.status == 1 and added.reference.id == hashlib.sha256(colour).hexdigest(), added

ask = lambda **fields: pool.message("RetrieveContext", **fields)
sent = [ask(options={"series_id": "by-reflection", "page": {"key": "p"}}), *(ask(chunk=c) for c in chunks("p", grey))]
answers = list(pool.call("RetrieveContext", iter(sent)))
hits = answers[0].summary.hits
assert len(hits) == 12 and {hit.corner for hit in hits} == {1, 2, 3, 4}, answers[0]
assert any(answer.HasField("chunk") for answer in answers)

ask = lambda **fields: painter.message("ColorizePages", **fields)
sent = [
    ask(options={"series": {"series_id": "by-reflection"}}),
    ask(page={"picture": {"key": "p"}}), *(ask(chunk=c) for c in chunks("p", grey)), ask(end={"page_key": "p"}),
]
picture, result = b"", None
for answer in painter.call("ColorizePages", iter(sent)):
    assert not answer.HasField("error"), answer
    if answer.HasField("chunk"):
        picture += answer.chunk.data
    if answer.HasField("result"):
        result = answer.result
assert hashlib.sha256(picture).hexdigest() == result.sha256
open(out_file, "wb").write(picture)
loaded = [name for name in sys.modules if name.split(".")[0] in ("panelhue", "retrieval", "colorizer", "serving")]
assert not loaded, loaded
"""


def png(picture: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()


def scene() -> np.ndarray:
    """A red disc on a blue ground, with texture to match by."""
    y, x = np.mgrid[:240, :180]
    disc = (x - 90) ** 2 + (y - 120) ** 2 < 60**2
    shade = 20 * np.sin(x / 3)[..., None] * ~disc[..., None] + np.zeros((1, 1, 3))
    return np.clip(np.where(disc[..., None], (220, 40, 40), (60, 110, 230)) + shade, 0, 255).astype(np.uint8)


def test_reflection_alone_is_enough_for_the_main_job(retrieval_server, tmp_path):
    colorizer = RunningServer("colorizer-server", tmp_path / "colorizer", "--retrieval", retrieval_server.address)
    try:
        play(retrieval_server.address, colorizer.address, tmp_path)
    finally:
        colorizer.stop()


def play(retrieval: str, colorizer: str, tmp_path: Path) -> None:
    colour = scene()
    grey = np.asarray(Image.fromarray(colour).convert("L"))
    (tmp_path / "colour.png").write_bytes(png(colour))
    (tmp_path / "grey.png").write_bytes(png(grey))
    files = [str(tmp_path / name) for name in ("colour.png", "grey.png", "out.png")]
    caller = [sys.executable, "-I", "-c", CALLER, retrieval, colorizer, *files]
    done = subprocess.run(caller, cwd=tmp_path, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    result = np.asarray(Image.open(tmp_path / "out.png").convert("RGB"))
    assert result.shape == colour.shape
    red, blue = result[120, 90].astype(int), result[20, 20].astype(int)
    assert red[0] > red[2] + 40, f"the disc must be red, got {red}"
    assert blue[2] > blue[0] + 40, f"the ground must be blue, got {blue}"
