"""A loaded model → its exports, file by file, each under the name by which libraries ask for it. What stands whole is not made again.

All are made of one graph (`graph`). Names of ONNX files are those that sentence-transformers gives them and of the all-MiniLM-L6-v2
repository; `model_quantized.onnx` is what Transformers.js takes by itself in a browser.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from medembed.export import graph, openvino

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PLAIN = "onnx/model.onnx"
OPTIMISED = "onnx/model_O2.onnx"
# AVX2 adds products of 8 bits up in 16: with weights of 7 bits these sums do not overflow, on any processor.
INT8_OF_7_BITS = ("onnx/model_quint8_avx2.onnx", "onnx/model_quantized.onnx")
INT8 = ("onnx/model_qint8_avx512_vnni.onnx", "onnx/model_qint8_arm64.onnx")
OPENVINO = "openvino/openvino_model.xml"
OPENVINO_INT8 = "openvino/openvino_model_qint8_quantized.xml"

BY_FORMAT = {
    "onnx": (PLAIN,),
    "onnx-optimised": (OPTIMISED,),
    "onnx-int8": (*INT8_OF_7_BITS, *INT8),
    "openvino": (OPENVINO,),
    "openvino-int8": (OPENVINO_INT8,),
}


def write(load: "Callable[[], SentenceTransformer]", formats: Sequence[str], folder: Path) -> dict[str, str]:
    """Write what `formats` mean into `folder`; path → precision. The model is loaded, and changed, only if a file is missing.

    Raises:
        InputError: the model cannot be written as one graph.
    """
    precisions = {path: "int8" if "int8" in form else "fp32" for form in formats for path in BY_FORMAT[form]}
    missing = [path for path in precisions if not all(part.exists() for part in parts(folder / path))]
    if not missing:
        return precisions
    unfinished = folder / ".unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
    unfinished.mkdir(parents=True)
    plain = unfinished / "plain.onnx"
    graph.write(load(), plain)
    for path in tqdm(missing, desc="export", unit=" files"):
        made, final = unfinished / Path(path).name, folder / path
        _make(path, plain, made)
        final.parent.mkdir(exist_ok=True)
        for part in parts(made):
            part.replace(final.with_suffix(part.suffix))
    shutil.rmtree(unfinished)
    return precisions


def parts(path: Path) -> list[Path]:
    """The files that one export is: an OpenVINO model is two."""
    return [path.with_suffix(".bin"), path] if path.suffix == ".xml" else [path]


def _make(path: str, plain: Path, made: Path) -> None:
    if path == PLAIN:
        shutil.copyfile(plain, made)
    elif path == OPTIMISED:
        graph.optimise(plain, made)
    elif path in (*INT8_OF_7_BITS, *INT8):
        graph.quantise(plain, made, seven_bits=path in INT8_OF_7_BITS)
    else:
        openvino.convert(plain, made, int8=path == OPENVINO_INT8)
