"""A back-end out of process that knows nothing of Panelhue but the contract, and misbehaves as MODE says.

Run as `python -m tests.wire.foreign_backend`; MODE: "" (does its work), "deaf" (works on when its stream is cancelled),
"hung" (answers nothing any more once it has a page), "lost" (its GPU is lost), "silent" (ends a stream without an
answer), "liar" (a wrong sha256), "small" (a picture of another size), "broken-stream" (an INTERNAL status).
"""

from __future__ import annotations

import hashlib
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from PIL import Image

from panelhue.colorizer.v1 import colorizer_pb2 as pb
from panelhue.colorizer.v1 import colorizer_pb2_grpc as pb_grpc
from panelhue.common.v1 import common_pb2 as common

MODE = os.environ.get("MODE", "")
Response = pb.ColorizePagesResponse


class Foreign(pb_grpc.ColorizerServiceServicer):
    def __init__(self) -> None:
        self.pages = 0

    def GetBackend(self, request: pb.GetBackendRequest, context: grpc.ServicerContext) -> pb.GetBackendResponse:  # noqa: N802 - the contract\'s name
        _check(context)
        if request.name != "foreign":
            context.abort(grpc.StatusCode.NOT_FOUND, "only foreign")
        card = pb.Backend(name="foreign", version="9", description="For tests.", available=True, min_side=16)
        return pb.GetBackendResponse(backend=card)

    def GetServerInfo(self, request: pb.GetServerInfoRequest, context: grpc.ServicerContext) -> object:  # noqa: N802 - the contract\'s name
        _check(context)
        return pb.GetServerInfoResponse(queue_length=self.pages)

    def ColorizePages(self, messages: Iterator[pb.ColorizePagesRequest], context: grpc.ServicerContext) -> object:  # noqa: N802
        _check(context)
        data, key = b"", ""
        for message in messages:
            data += message.chunk.data
            key = message.page.picture.key or key
            if message.HasField("end"):
                break
        self.pages += 1
        yield Response(progress=pb.PageProgress(page_key=key, step=1, steps=2))
        if MODE == "deaf":
            threading.Event().wait()
        if MODE == "hung":
            os.kill(os.getpid(), signal.SIGSTOP)
        self.pages -= 1
        if MODE == "lost":
            failure = common.Failure(code=13, reason="GPU_LOST", message="the GPU is lost")
            yield Response(error=pb.PageError(page_key=key, failure=failure))
            return
        if MODE == "silent":
            return
        if MODE == "broken-stream":
            context.abort(grpc.StatusCode.INTERNAL, "something")
        out = io.BytesIO()
        with Image.open(io.BytesIO(data)) as image:
            picture = image.convert("RGB")
            (picture.resize((20, 20)) if MODE == "small" else picture).save(out, "PNG")
        data = out.getvalue()
        header = common.PictureHeader(key=key, media_type="image/png", byte_size=len(data))
        yield Response(picture=header)
        yield Response(chunk=common.PictureChunk(key=key, data=data, last=True))
        digest = "0" * 64 if MODE == "liar" else hashlib.sha256(data).hexdigest()
        yield Response(result=pb.PageResult(page_key=key, sha256=digest))


def _check(context: grpc.ServicerContext) -> None:
    if ("authorization", f"Bearer {os.environ['PANELHUE_BACKEND_TOKEN']}") not in context.invocation_metadata():
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")


def main() -> None:
    print("good morning\nfrom the foreign back-end", file=sys.stderr, flush=True)
    server = grpc.server(futures.ThreadPoolExecutor(8))
    pb_grpc.add_ColorizerServiceServicer_to_server(Foreign(), server)
    status = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    server.add_insecure_port(os.environ["PANELHUE_BACKEND_SOCKET"])
    server.start()
    status.set("", health_pb2.HealthCheckResponse.SERVING)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
