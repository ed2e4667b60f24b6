"""Milvus: the standalone server of the package `milvus`, and milvus-lite, both through pymilvus."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.processes import end
from benchmarks.peers.product import Product, Search, padded

NAME = "patches"
START_SECONDS = 180.0
QUIET_SECONDS, STEP_SECONDS = 3.0, 0.2
BUSY = 0.1  # share of a core above which the process is at work


def quiet(folder: Path, seconds: float) -> None:
    """Returns once, for so long, no file below the folder has changed and this process has computed nothing.

    milvus-lite builds its index in the background and says that it is finished at once. A kill before it is built has
    the next start build it; one while its file is being written leaves a collection that is then refused.
    """
    last: list[tuple[str, int]] = []
    since, computed = time.monotonic(), time.process_time()
    while time.monotonic() - since < seconds:
        time.sleep(STEP_SECONDS)
        state = sorted((str(path), path.stat().st_size) for path in folder.rglob("*") if path.is_file())
        spent, computed = time.process_time() - computed, time.process_time()
        if state != last or spent > BUSY * STEP_SECONDS:
            last, since = state, time.monotonic()


class MilvusLite(Product):
    """The server written anew in Python, in a thread of this process; option `index`: AUTOINDEX, FLAT and so on."""

    packages = ("milvus-lite", "pymilvus")
    ground = "patches.db"

    def start(self) -> None:
        from pymilvus import MilvusClient

        self.folder.mkdir(parents=True, exist_ok=True)
        self._client: Any = MilvusClient(str(self.folder / "patches.db"))
        if self._client.has_collection(NAME):
            self._client.load_collection(NAME)  # which the server does by itself

    def _reached(self) -> Any:
        return self._client

    def create(self) -> None:
        from pymilvus import DataType

        client = self._reached()
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("chapter", DataType.INT64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self.dim)
        index = client.prepare_index_params()
        index.add_index("vector", index_type=self.options["index"], metric_type="IP")
        client.create_collection(NAME, schema=schema, index_params=index)

    def insert(self, first: int, vectors: NDArray[np.float32], chapters: NDArray[np.int64]) -> None:
        rows = [
            {"id": first + n, "chapter": int(chapter), "vector": vector}
            for n, (vector, chapter) in enumerate(zip(vectors, chapters, strict=True))
        ]
        self._client.insert(NAME, rows)

    def settle(self) -> str:
        self._client.flush(NAME)
        quiet(self.folder, QUIET_SECONDS)
        return f"flush, and {QUIET_SECONDS:.0f} s at rest"

    def searcher(self, k: int, bound: int | None, setting: str) -> Search:
        client = self._reached()
        condition = "" if bound is None else f"chapter <= {bound}"

        def search(queries: NDArray[np.float32]) -> NDArray[np.int64]:
            found = client.search(
                NAME, data=list(queries), limit=k, filter=condition, search_params={"metric_type": "IP"}
            )  # fmt: skip
            return padded([[hit["id"] for hit in one] for one in found], k)

        return search

    def count(self) -> int:
        return int(self._reached().query(NAME, filter="", output_fields=["count(*)"])[0]["count(*)"])


class MilvusServer(MilvusLite):
    """The server, started as its package does."""

    packages = ("milvus", "pymilvus")
    server = True
    ground = "data"

    def start(self) -> None:
        import milvus

        self.folder.mkdir(parents=True, exist_ok=True)
        self._unpack(milvus)
        configuration = milvus.MilvusServerConfig(data_dir=str(self.folder))
        self._server: Any = milvus.MilvusServer(configuration, wait_for_started=False)
        self._server.start()
        self._address = f"http://127.0.0.1:{self._server.listen_port}"
        self._client = None

    def _unpack(self, milvus: Any) -> None:
        """The package unpacks its programs at its first start; here once, beside itself, and linked from then on."""
        place = Path(milvus.__file__).parent / "unpacked"
        place.mkdir(exist_ok=True)
        milvus._initialize_data_files(str(place))
        if not (self.folder / "bin").exists():
            (self.folder / "bin").symlink_to(place / "bin")

    def _reached(self) -> Any:
        if self._client is None:
            from pymilvus import MilvusClient

            self._client = MilvusClient(self._address, timeout=3)
        return self._client

    def create(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                super().create()
                return
            except Exception:  # whatever its client raises before the server is ready
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def settle(self) -> str:
        self._client.flush(NAME, timeout=300)
        while self._client.describe_index(NAME, "vector").get("pending_index_rows"):
            time.sleep(0.2)
        return "flush, index built"

    def reach(self) -> Any:
        return self.folder, self.dim, dict(self.options), self._address

    @classmethod
    def connect(cls, reach: Any) -> Product:
        folder, dim, options, address = reach
        product = cls(folder, dim, options)
        product._address, product._client = address, None
        product._reached()
        return product

    def family(self) -> list[int]:
        return [self._server.server_proc.pid]

    def kill(self) -> None:
        server = getattr(self, "_server", None)
        if server is not None and server.server_proc is not None:
            end(server.server_proc.pid)
            server.server_proc.wait()
