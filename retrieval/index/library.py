"""FAISS itself: imported at the first call, by this module alone."""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType

from serving.errors import FailedState

WITHOUT_FAISS = (
    "no FAISS is installed; install exactly one of panelhue[cpu], panelhue[gpu] (CUDA 13) and panelhue[gpu-cu12]"
)


@lru_cache(maxsize=1)
def load_faiss() -> ModuleType:
    """FAISS itself, imported at the first call.

    Raises:
        FailedState: NO_FAISS, none is installed; the message names the extras.
    """
    try:
        import faiss
    except ImportError as error:
        raise FailedState(f"{WITHOUT_FAISS}: {error}", reason="NO_FAISS") from error
    if not hasattr(faiss, "knn_inner_product"):  # two builds in one folder leave a mixture of both
        raise FailedState(f"the FAISS that is installed is incomplete; {WITHOUT_FAISS}", reason="NO_FAISS")
    module: ModuleType = faiss
    return module


def faiss_version() -> str:
    """FAISS's version and kind, such as "1.15.1 (cpu)".

    Raises:
        FailedState: as `load_faiss`.
    """
    return f"{load_faiss().__version__} ({'gpu' if gpu_count() else 'cpu'})"


def gpu_count() -> int:
    """GPUs that FAISS can use; 0 with a CPU build."""
    faiss = load_faiss()
    return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0
