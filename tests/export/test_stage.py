"""The stage: what it records, what it keeps back, what a kill costs, and what of it is published."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from medembed import export, publish, report, stages
from medembed.errors import InputError
from medembed.export import files
from medembed.recipe import ModelRecipe
from medembed.run import Run
from tests.export.conftest import exporting


def test_the_record_tells_of_each_file_what_it_loses(exported: tuple[ModelRecipe, Run]) -> None:
    _, run = exported
    record = run.finished("export")
    assert list(record.facts["files"]) == [files.PLAIN, *files.INT8_OF_7_BITS, *files.INT8]
    plain, int8 = (record.facts["files"][path] for path in (files.PLAIN, files.INT8[0]))
    assert plain["bytes"] == (run.path("export") / files.PLAIN).stat().st_size
    assert (plain["precision"], plain["published"]) == ("fp32", True)
    assert plain["cosine"] == {"mean": 1.0, "min": 1.0}
    tuned = run.finished("evaluate").facts["tasks"]["small"]["ndcg_at_10"]["tuned"]
    assert plain["ndcg_at_10"] == {"small": {"original": round(tuned, 4), "exported": round(tuned, 4)}}
    assert (int8["precision"], int8["published"]) == ("int8", False)
    assert 0.9 < int8["cosine"]["min"] < int8["cosine"]["mean"] < 1
    assert set(record.facts["runtimes"]) == {"onnxruntime"}
    assert record.rejects == {export.LOST: 4}
    line = report.line(record)
    assert line.startswith("export     5 files, cosine fp32 1.0000, int8 ")
    assert line.endswith("4 rejected: loses more than the recipe allows 4")


def test_done_work_is_not_redone(exported: tuple[ModelRecipe, Run]) -> None:
    recipe, run = exported
    skipped = []
    stages.perform("export", recipe, run, skipped.append)
    assert skipped


def test_only_files_that_came_close_are_published(exported: tuple[ModelRecipe, Run]) -> None:
    recipe, run = exported
    assert run.path("export", files.INT8[0]).exists()
    assert {path for path in publish.contents(recipe, run) if path.startswith("onnx")} == {files.PLAIN}


def test_both_files_of_openvino_are_published(evaluated: tuple[ModelRecipe, Run]) -> None:
    before, run = evaluated
    recipe = run.recipe = exporting(before, formats=["openvino", "openvino-int8"])
    record = stages.perform("export", recipe, run)
    assert record.facts["files"][files.OPENVINO_INT8]["cosine"]["min"] > 0.99
    stems = ("openvino_model", "openvino_model_qint8_quantized")
    expected = {f"openvino/{stem}.{suffix}" for stem in stems for suffix in ("bin", "xml")}
    assert expected == {path for path in publish.contents(recipe, run) if path.startswith("openvino")}


@pytest.mark.slow
def test_killed_while_it_compares_it_goes_on_to_the_same_record(
    exported: tuple[ModelRecipe, Run], evaluated_once: tuple[ModelRecipe, Path], tmp_path: Path
) -> None:
    recipe, undisturbed = exported
    run = Run(recipe, Path(shutil.copytree(evaluated_once[1], tmp_path / "killed")))
    program = (
        "import os, signal, sys; from pathlib import Path; from medembed import stages; from medembed.export import parity\n"
        "from medembed.recipe import ModelRecipe; from medembed.run import Run\n"
        "compare, seen = parity.compare, []\n"
        "def counted(*given):\n"
        "    seen.append(given) if len(seen) < 1 else os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return compare(*given)\n"
        "parity.compare = counted\n"
        "recipe = ModelRecipe.model_validate_json(sys.stdin.read())\n"
        f"stages.perform('export', recipe, Run(recipe, Path({str(run.folder)!r})))\n"
    )
    told = {"input": recipe.model_dump_json(), "text": True, "env": os.environ}
    assert subprocess.run([sys.executable, "-c", program], check=False, **told).returncode == -signal.SIGKILL
    assert run.record("export") is None
    stood = {path: path.stat().st_mtime_ns for path in run.path("export", "onnx").iterdir()}
    record = stages.perform("export", recipe, run)
    assert {path: path.stat().st_mtime_ns for path in run.path("export", "onnx").iterdir()} == stood
    before = undisturbed.finished("export")
    assert (record.facts, record.outputs) == (before.facts, before.outputs)


def test_without_a_local_task_cosines_alone_decide(evaluated: tuple[ModelRecipe, Run]) -> None:
    before, run = evaluated
    recipe = run.recipe = exporting(before, formats=["onnx"])
    recipe = recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"tasks": ["NFCorpus"]})})
    from medembed import models
    from medembed.export import parity
    from medembed.recipe import Model

    model = models.load(Model(model=str(run.path("train", "model"))), device="cpu")
    references = parity.references(model, recipe, run)
    told = parity.compare(model, "0" * 64, references, recipe, run)
    assert told == {"cosine": {"mean": 1.0, "min": 1.0}, "ndcg_at_10": {}}


def test_a_lost_point_keeps_a_file_back_as_a_lost_cosine_does() -> None:
    from medembed.export.parity import is_close
    from medembed.recipe import Export

    said = Export(formats=["onnx"], cosine=0.98, ndcg_loss=0.01)
    told = {"cosine": {"mean": 0.985, "min": 0.9}, "ndcg_at_10": {"t": {"original": 0.66, "exported": 0.655}}}
    worse = {**told, "ndcg_at_10": {"t": {"original": 0.66, "exported": 0.64}}}
    assert is_close(told | {"precision": "int8"}, said)
    assert not is_close(worse | {"precision": "int8"}, said)
    assert not is_close(told | {"precision": "fp32"}, said)


def test_formats_may_stand_alone(evaluated: tuple[ModelRecipe, Run]) -> None:
    said = evaluated[0].model_dump(mode="json")
    recipe = ModelRecipe.model_validate(said | {"export": ["onnx", "openvino-int8"]})
    assert recipe.export and recipe.export.formats == ["onnx", "openvino-int8"]
    assert stages.stages_of(recipe) == ["train", "evaluate", "export", "publish"]
    assert stages.stages_of(evaluated[0]) == ["train", "evaluate", "publish"]
    with pytest.raises(ValidationError, match="names one twice"):
        ModelRecipe.model_validate(said | {"export": ["onnx", "onnx"]})


def test_late_interaction_is_refused_with_the_recipe(evaluated: tuple[ModelRecipe, Run]) -> None:
    said = evaluated[0].model_dump(mode="json") | {"train": {"method": "late-interaction"}, "export": ["onnx"]}
    with pytest.raises(ValidationError, match="one for each token: drop `export`"):
        ModelRecipe.model_validate(said)


def test_missing_packages_are_told_before_anything_starts(
    evaluated: tuple[ModelRecipe, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"not installed: onnx, openvino, nncf\n.*medembed\[export\]"):
        export.check(exporting(evaluated[0], formats=["openvino-int8"]))
