"""An exported file → a `SentenceTransformer` that embeds by it: tokenizer, prompts and lengths are the model's, the numbers the file's.

So an export is measured by the very code that measures models, and as the libraries of its users run it.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medembed.export import openvino
from medembed.export.graph import EMBEDDING

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Inputs = dict[str, Any]  # name → (batch, sequence) int64
Runner = Callable[[Inputs], Any]  # → (batch, D)


def exported(model: "SentenceTransformer", path: Path) -> "SentenceTransformer":
    """`model` with the file at `path` in place of its weights; the given one stays as it is."""
    import torch

    names, run = _openvino(path) if path.suffix == ".xml" else _onnx(path)

    def forward(features: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {EMBEDDING: torch.from_numpy(run({name: features[name].numpy() for name in names}))}

    ours = copy.copy(model)
    ours.forward = forward
    return ours


def _onnx(path: Path) -> tuple[list[str], Runner]:
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return [each.name for each in session.get_inputs()], lambda inputs: session.run([EMBEDDING], inputs)[0]


def _openvino(path: Path) -> tuple[list[str], Runner]:
    import torch

    # On processors with bf16 it would compute in that: here the file is measured.
    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.library().Core().compile_model(path, "CPU", settings)
    names = [each.any_name for each in compiled.inputs]
    return names, lambda inputs: compiled.infer_new_request(inputs)[EMBEDDING].copy()  # several threads ask at once
