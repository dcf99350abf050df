"""The run folder: whole files, one owner, finished work kept, changed work set aside."""

import errno
from pathlib import Path

import pyarrow as pa
import pytest

from medembed.errors import InputError, RunError
from medembed.recipe import DatasetRecipe
from medembed.run import Record, Run, no_space_is_told, replacing, sha256


@pytest.fixture
def recipe(tmp_path: Path) -> DatasetRecipe:
    (tmp_path / "pairs.csv").write_text("query,positive\n")
    pairs = [{"source": str(tmp_path / "pairs.csv"), "license": "mit"}]
    return DatasetRecipe.model_validate(
        {"kind": "dataset", "name": "one", "pairs": pairs, "publish": {"folder": "hub/one"}}
    )


TABLE = pa.table({"a": ["x", "y"]})


def do(run: Run, fingerprint: str = "f") -> Record:
    def work() -> Record:
        run.write("curate", "pairs", TABLE)
        return Record("curate", counts={"pairs": 2})

    with run.locked():
        return run.perform("curate", fingerprint, work)


def test_a_finished_stage_is_done_and_its_tables_can_be_read(recipe: DatasetRecipe, tmp_path: Path) -> None:
    run = Run(recipe, tmp_path / "run")
    written = do(run)
    assert run.done("curate", "f") == written
    assert written.outputs == {"pairs.parquet": sha256(run.path("curate", "pairs.parquet"))}
    assert run.read("curate", "pairs") == TABLE


def test_a_stage_is_not_done_for_another_recipe_or_without_its_outputs(recipe: DatasetRecipe, tmp_path: Path) -> None:
    run = Run(recipe, tmp_path / "run")
    do(run)
    assert run.done("curate", "other") is None
    run.path("curate", "pairs.parquet").unlink()
    assert run.done("curate", "f") is None
    with pytest.raises(InputError, match="Run `medembed curate`"):
        run.read("curate", "pairs")


@pytest.mark.parametrize("broken", ["pairs.parquet", "record.json"])
def test_a_stage_whose_files_were_changed_is_not_done(recipe: DatasetRecipe, tmp_path: Path, broken: str) -> None:
    run = Run(recipe, tmp_path / "run")
    do(run)
    run.path("curate", broken).write_text("[]")
    assert run.done("curate", "f") is None


def test_what_another_recipe_left_is_set_aside_not_deleted(recipe: DatasetRecipe, tmp_path: Path) -> None:
    run = Run(recipe, tmp_path / "run")
    do(run, "old")
    do(run, "new")
    assert (run.folder / "superseded" / "curate-1" / "pairs.parquet").exists()
    assert run.done("curate", "new")


def test_what_another_recipe_began_in_vain_leaves_nothing_to_set_aside(recipe: DatasetRecipe, tmp_path: Path) -> None:
    run = Run(recipe, tmp_path / "run")

    def in_vain() -> Record:
        raise InputError.of("no server")

    with run.locked(), pytest.raises(InputError, match="no server"):
        run.perform("curate", "old", in_vain)
    do(run, "new")
    assert run.done("curate", "new") and not (run.folder / "superseded").exists()


def test_equal_tables_give_equal_bytes(recipe: DatasetRecipe, tmp_path: Path) -> None:
    one, two = Run(recipe, tmp_path / "1"), Run(recipe, tmp_path / "2")
    assert do(one).outputs == do(two).outputs


def test_a_folder_of_another_recipe_or_of_other_things_is_refused(recipe: DatasetRecipe, tmp_path: Path) -> None:
    do(Run(recipe, tmp_path / "run"))
    other = recipe.model_copy(update={"name": "other"})
    with (
        pytest.raises(InputError, match="belongs to another recipe: dataset one"),
        Run(other, tmp_path / "run").locked(),
    ):
        pass
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"), Run(recipe, tmp_path / "docs").locked():
        pass
    with (
        pytest.raises(InputError, match="cannot be a run folder"),
        Run(recipe, tmp_path / "docs" / "thesis.txt" / "x").locked(),
    ):
        pass


def test_two_processes_cannot_work_in_one_folder(recipe: DatasetRecipe, tmp_path: Path) -> None:
    with (
        Run(recipe, tmp_path / "run").locked(),
        pytest.raises(InputError, match="another medembed process"),
        Run(recipe, tmp_path / "run").locked(),
    ):
        pass


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told_with_its_place_and_the_mend(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with (
        pytest.raises(RunError, match="no space left on the device while doing `mine`") as caught,
        no_space_is_told("doing `mine`", tmp_path),
        full.open("w") as file,
    ):
        file.write("x")
    assert caught.value.exit_code == 1
    with pytest.raises(OSError, match="other"), no_space_is_told("doing `mine`", tmp_path):
        raise OSError(errno.EIO, "other")
