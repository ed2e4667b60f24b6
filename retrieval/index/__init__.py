"""Vectors to nearest rows: segments that never move, an exact answer whatever they are searched with.

`Index` grows and gives a `Snapshot`, which any number of threads search. This package alone imports FAISS.
"""

from retrieval.index.answers import Nearest, RowSource
from retrieval.index.approximate import Recall
from retrieval.index.device import CpuScanner, GpuScanner, Scanner, best_scanner
from retrieval.index.index import SEGMENT_ROWS, Index
from retrieval.index.library import faiss_version, gpu_count, load_faiss
from retrieval.index.segments import NO_KEY, Precision, Segment
from retrieval.index.snapshot import Snapshot
from retrieval.index.structures import Kind

__all__ = [
    "NO_KEY",
    "SEGMENT_ROWS",
    "CpuScanner",
    "GpuScanner",
    "Index",
    "Kind",
    "Nearest",
    "Precision",
    "Recall",
    "RowSource",
    "Scanner",
    "Segment",
    "Snapshot",
    "best_scanner",
    "faiss_version",
    "gpu_count",
    "load_faiss",
]
