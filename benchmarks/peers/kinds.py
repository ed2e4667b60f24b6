"""What is compared: every product, each in the kinds it comes in, and who syncs what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SMALL, LARGE = 100_000, 1_000_000


@dataclass(frozen=True)
class Kind:
    """One product in one form."""

    product: str  # as users call it
    kind: str  # what it is
    adapter: str  # module:class below benchmarks.peers
    sync: str  # what an acknowledged insert means, and how that is known
    packages: tuple[str, ...] = ()  # of its environment; none: the project's own
    options: Mapping[str, Any] = field(default_factory=dict)
    most_rows: int = SMALL  # larger pools are not asked of it
    note: str = ""
    own_blas: bool = False  # brings an old OpenBLAS, which the machine's own settings for it are meant for
    store: bool = True  # whether an insert is kept at all; the floor is no store

    @property
    def environment(self) -> str:
        """Name of its environment; kinds of the same packages share one."""
        return "-".join(name.split("=")[0] for name in self.packages) or "own"


STRACE = "(strace of a fill)"
CHROMA = ("chromadb==1.5.9",)
CHROMA_SYNC = f"every acknowledged batch: SQLite syncs its journal and file at each commit {STRACE}"
LITE = ("milvus-lite==3.2.2", "pymilvus==3.0.2")
LITE_SYNC = (
    f"nothing before flush: the log is written, but synced only when it is closed {STRACE}; survives a kill, though "
    "one while its background index is written was seen to leave a collection that it refuses to load"
)
MILVUS = ("milvus==2.3.5", "pymilvus==3.0.2")
MILVUS_SYNC = f"etcd's metadata only; the rows' log (RocksDB) is written, not synced {STRACE}; survives a kill"
LANCE = ("lancedb==0.40.0", "pyarrow==26.0.1")
LANCE_SYNC = f"nothing: files are written and renamed, no sync of any of them {STRACE}; survives a kill"
QDRANT = ("qdrant-client==1.20.0",)
QDRANT_SYNC = f"every single row: SQLite commits and syncs each {STRACE}"
USEARCH = ("usearch==2.26.6",)
USEARCH_SYNC = f"nothing: rows are in memory until save(), whose file is not synced {STRACE}; lost by a kill before it"
SERVER = "milvus:MilvusServer"
AUTO, FLAT = {"index": "AUTOINDEX"}, {"index": "FLAT"}
LMDB_SYNC = "every acknowledged row: fdatasync by LMDB before the answer (docs/FORMAT.md)"
EMULATED = "the client's own emulation of the server, not the server"

KINDS = (
    Kind(
        "panelhue",
        "server over gRPC",
        "panelhue_grpc:PanelhueServer",
        LMDB_SYNC,
        most_rows=LARGE,
    ),
    Kind(
        "panelhue",
        "server over gRPC, IVF, recall floor 0.95",
        "panelhue_grpc:PanelhueServer",
        LMDB_SYNC,
        options={"index": "IVF"},
        most_rows=LARGE,
        note="searched exactly after a restart until the lists are built again",
    ),
    Kind(
        "faiss",
        "in process, IndexFlatIP at its best thread count",
        "faiss_flat:FaissFlat",
        f"nothing: not a store; write_index once after the last row, not synced {STRACE}",
        most_rows=LARGE,
        store=False,
    ),
    Kind("chromadb", "server over HTTP", "chroma:ChromaServer", CHROMA_SYNC, CHROMA),
    Kind("chromadb", "server over HTTP, ef_search 500", "chroma:ChromaServer", CHROMA_SYNC, CHROMA, {"ef_search": 500}),
    Kind("chromadb", "in process", "chroma:ChromaEmbedded", CHROMA_SYNC, CHROMA),
    Kind("lancedb", "in process, no index (exact)", "lance:Lance", LANCE_SYNC, LANCE, most_rows=LARGE),
    Kind("milvus-lite", "in process, AUTOINDEX", "milvus:MilvusLite", LITE_SYNC, LITE, AUTO),
    Kind("milvus-lite", "in process, FLAT", "milvus:MilvusLite", LITE_SYNC, LITE, FLAT),
    Kind("milvus", "server over gRPC, AUTOINDEX", SERVER, MILVUS_SYNC, MILVUS, AUTO, own_blas=True),
    Kind("milvus", "server over gRPC, FLAT", SERVER, MILVUS_SYNC, MILVUS, FLAT, own_blas=True),
    Kind("qdrant-client", "python emulation in process", "qdrant:QdrantLocal", QDRANT_SYNC, QDRANT, note=EMULATED),
    Kind("usearch", "in process, HNSW", "usearching:Usearch", USEARCH_SYNC, USEARCH, store=False),
    Kind("usearch", "in process, exact", "usearching:Usearch", USEARCH_SYNC, USEARCH, {"exact": True}, store=False),
)
