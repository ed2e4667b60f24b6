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


CHROMA = ("chromadb==1.5.9",)
CHROMA_SYNC = "TODO"
LITE = ("milvus-lite==3.2.2", "pymilvus==3.0.2")
MILVUS = ("milvus==2.3.5", "pymilvus==3.0.2")
MILVUS_SYNC = "TODO"

KINDS = (
    Kind(
        "panelhue",
        "server over gRPC",
        "panelhue_grpc:PanelhueServer",
        "every acknowledged row: fdatasync by LMDB before the answer (docs/FORMAT.md)",
        most_rows=LARGE,
    ),
    Kind(
        "faiss",
        "in process, IndexFlatIP at its best thread count",
        "faiss_flat:FaissFlat",
        "nothing: not a store; write_index once after the last row, not synced",
        most_rows=LARGE,
        store=False,
    ),
    Kind("chromadb", "server over HTTP", "chroma:ChromaServer", CHROMA_SYNC, CHROMA),
    Kind("chromadb", "server over HTTP, ef_search 500", "chroma:ChromaServer", CHROMA_SYNC, CHROMA, {"ef_search": 500}),
    Kind("chromadb", "in process", "chroma:ChromaEmbedded", CHROMA_SYNC, CHROMA),
    Kind("lancedb", "in process, no index", "lance:Lance", "TODO", ("lancedb==0.40.0", "pyarrow"), most_rows=LARGE),
    Kind("milvus-lite", "in process, AUTOINDEX", "milvus:MilvusLite", "TODO", LITE, {"index": "AUTOINDEX"}),
    Kind("milvus-lite", "in process, FLAT", "milvus:MilvusLite", "TODO", LITE, {"index": "FLAT"}),
    Kind(
        "milvus",
        "server over gRPC, AUTOINDEX",
        "milvus:MilvusServer",
        MILVUS_SYNC,
        MILVUS,
        {"index": "AUTOINDEX"},
        own_blas=True,
    ),
    Kind("milvus", "server over gRPC, FLAT", "milvus:MilvusServer", MILVUS_SYNC, MILVUS, {"index": "FLAT"}, own_blas=True),
    Kind(
        "qdrant-client", "python emulation in process (local mode)", "qdrant:QdrantLocal", "TODO", ("qdrant-client==1.20.0",)
    ),
    Kind("usearch", "in process, HNSW", "usearching:Usearch", "TODO", ("usearch==2.26.6",)),
    Kind("usearch", "in process, exact", "usearching:Usearch", "TODO", ("usearch==2.26.6",), {"exact": True}),
)  # fmt: skip
