"""Model → files for other runtimes (ONNX, OpenVINO; fp32 and int8), each held against the model itself before it may be published.

In: the trained model and its scores. Out: `onnx/` and `openvino/`, named as sentence-transformers, Transformers.js, fastembed and
text-embeddings-inference look for them, and a record of what each file loses: cosine of its embeddings with the model's, nDCG@10.
"""

import importlib.util
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from medembed import models
from medembed.errors import Fault, InputError
from medembed.export import files, parity
from medembed.export.runtimes import exported
from medembed.recipe import Export, Model, ModelRecipe
from medembed.run import Record, Run, sha256

LOST = "loses more than the recipe allows"


def check(recipe: ModelRecipe) -> None:
    """Look whether the packages that write the recipe's formats are installed.

    Raises:
        InputError: they are not.
    """
    wanted = {package: runtime for it in _said(recipe).formats for package, runtime in _packages(it)}
    if missing := [package for package in wanted if importlib.util.find_spec(package) is None]:
        what = f"packages are not installed: {', '.join(missing)}"
        raise InputError(Fault(what, "export", "Install them: `pip install 'medembed[export]'`."))


def inputs(recipe: ModelRecipe, run: Run) -> tuple[Any, dict[str, Any]]:
    read = {stage: [it.fingerprint, it.outputs] for stage in ("train", "evaluate") if (it := run.finished(stage))}
    return _said(recipe).model_dump(mode="json"), read


def work(recipe: ModelRecipe, run: Run) -> Record:
    check(recipe)
    said, folder = _said(recipe), run.path("export")
    trained = Model(model=str(run.path("train", "model").absolute()))
    written = files.write(lambda: models.load(trained, device="cpu"), said.formats, folder)
    model = models.load(trained, device="cpu")
    references = parity.references(model, recipe, run)
    found: dict[str, dict[str, Any]] = {}
    compared: dict[str, dict[str, Any]] = {}  # content → what it loses: the same bytes may have several names
    for path, precision in tqdm(written.items(), desc="compare", unit=" files"):
        content = sha256(folder / path)
        if content not in compared:
            compared[content] = parity.compare(exported(model, folder / path), content, references, recipe, run)
        size = sum(it.stat().st_size for it in files.parts(folder / path))
        told = {"precision": precision, "bytes": size} | compared[content]
        found[path] = told | {"published": parity.is_close(told, said)}
    outputs = {str(part.relative_to(folder)): sha256(part) for path in found for part in files.parts(folder / path)}
    lost = sum(not it["published"] for it in found.values())
    runtimes = dict.fromkeys(runtime for it in said.formats for _, runtime in _packages(it) if runtime)
    return Record(
        stage="export",
        counts={"files": len(found), "published": len(found) - lost},
        rejects={LOST: lost} if lost else {},
        facts={"files": found, "runtimes": {name: version(name) for name in runtimes}},
        outputs=outputs,
    )


def published(record: Record, folder: Path) -> dict[str, Path]:
    """What of a finished export goes into the repository: path there → file."""
    close = [path for path, told in record.facts["files"].items() if told["published"]]
    return {str(part.relative_to(folder)): part for path in close for part in files.parts(folder / path)}


def _said(recipe: ModelRecipe) -> Export:
    assert recipe.export is not None
    return recipe.export


def _packages(form: str) -> list[tuple[str, str | None]]:
    """The packages that write a format, each with the name of the runtime that it is, if it is one."""
    onnx: list[tuple[str, str | None]] = [("onnx", None), ("onnxruntime", "onnxruntime")]
    if not form.startswith("openvino"):
        return onnx
    return [*onnx[:1], ("openvino", "openvino"), *([("nncf", None)] if form == "openvino-int8" else [])]
