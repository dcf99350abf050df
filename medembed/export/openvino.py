"""An ONNX graph → OpenVINO's two files, `.xml` and `.bin`, in fp32 or with weights of 8 bits.

int8 is of the weights alone: nothing has to be calibrated, and next to nothing is lost. Processors with instructions for it (VNNI, AMX)
multiply in 8 bits all the same: OpenVINO then quantises what flows between layers as it comes.
"""

import contextlib
import logging
import sys
from pathlib import Path
from typing import Any


def library() -> Any:
    """OpenVINO, which tells its maker of every import unless the package that does so is missing."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino


def convert(plain: Path, path: Path, *, int8: bool) -> None:
    """Write `path` (.xml) and the .bin beside it; equal graphs give equal bytes."""
    openvino = library()
    model = openvino.Core().read_model(plain)
    if int8:
        import nncf

        logging.getLogger("nncf").setLevel(logging.ERROR)
        with contextlib.redirect_stdout(sys.stderr):  # its progress bar
            model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
    _name_by_place(model)
    openvino.save_model(model, path, compress_to_fp16=False)


def _name_by_place(model: Any) -> None:
    """Give inner nodes the same names in every process: those that OpenVINO made up count all nodes that were ever made."""
    for place, node in enumerate(model.get_ordered_ops()):
        if node.get_type_name() not in ("Parameter", "Result"):
            node.set_friendly_name(f"{node.get_type_name()}_{place}")
