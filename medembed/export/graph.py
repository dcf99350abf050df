"""A model of sentence-transformers → one ONNX graph: token ids in; the tokens' vectors and the finished embedding out. And its variants.

Inputs: `input_ids`, `attention_mask` and, where the tokenizer gives them, `token_type_ids`, each (batch, sequence) int64. Outputs, in
this order: `last_hidden_state` (batch, sequence, D), which libraries take by name or by place and pool themselves; and
`sentence_embedding` (batch, D), pooled and normalised as the model does it, for whoever has nothing but a runtime.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medembed.errors import InputError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

OPSET = 18
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
TOKENS, EMBEDDING = "last_hidden_state", "sentence_embedding"
LARGEST = 2**31 - 2**24  # bytes of weights: a file of ONNX holds 2 GiB
EXAMPLE = ["two texts", "of different lengths, so that the graph knows of padding"]
WITHOUT = "Drop `export` from the recipe."


def write(model: "SentenceTransformer", path: Path) -> None:
    """Trace the model, fp32, with any batch size and length; equal models give equal bytes. Leaves the model changed.

    Raises:
        InputError: it is larger than a file of ONNX can be, or does what cannot be traced.
    """
    import torch

    if (size := 4 * sum(weights.numel() for weights in model.parameters())) > LARGEST:
        what = f"the model has {size / 2**30:.1f} GiB of weights, and a file of ONNX holds 2"
        raise InputError.of(what, "export", WITHOUT)
    model.float()
    model.transformers_model.set_attn_implementation("eager")  # plain matrix products, which every runtime knows
    features = {name: value for name, value in model.preprocess(EXAMPLE).items() if name in INPUTS}
    names = [name for name in INPUTS if name in features]
    axes = {name: {0: "batch", 1: "sequence"} for name in (*names, TOKENS)} | {EMBEDDING: {0: "batch"}}
    try:
        with _quiet(), torch.no_grad():
            torch.onnx.export(
                _traceable(model, names),
                tuple(features[name] for name in names),
                str(path),
                input_names=names,
                output_names=[TOKENS, EMBEDDING],
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,  # the other exporter needs onnxscript, and gives the same operators
            )
    except (RuntimeError, TypeError, ValueError) as error:  # of the exporter, which has no errors of its own
        kind = type(model.transformers_model).__name__
        raise InputError.of(f"{kind} cannot be written as ONNX ({type(error).__name__})", "export", WITHOUT) from error


def _traceable(model: "SentenceTransformer", names: list[str]) -> Any:
    """The whole model, with tensors in place of the mapping that it takes and gives."""
    import torch

    class Traceable(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            made = self.model(dict(zip(names, inputs, strict=True)))
            return made["token_embeddings"], made["sentence_embedding"]

    return Traceable().eval()


def optimise(plain: Path, path: Path) -> None:
    """ONNX Runtime's own fusions that suit every processor (its level «extended»), made once and not at each start."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(plain, options, providers=["CPUExecutionProvider"])


def quantise(plain: Path, path: Path, *, seven_bits: bool) -> None:
    """Weights and token embeddings as int8, a scale for each column of a weight; what flows between layers as it comes (dynamic).

    `seven_bits`: weights within ±64. Products of 8 by 8 bits overflow where pairs of them are summed in 16 bits (AVX2, AVX-512 without
    VNNI), and unsigned weights, which do not, are slower.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(
            plain,
            path,
            op_types_to_quantize=["MatMul", "Gather"],
            per_channel=True,
            reduce_range=seven_bits,
            weight_type=QuantType.QInt8,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters say of every shape that they cannot follow: what was made is measured."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
