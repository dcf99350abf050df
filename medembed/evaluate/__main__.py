"""`accelerate launch [--config_file YAML] -m medembed.evaluate RECIPE [key=value ...] [--run-dir DIR]`, in every process of the launch.

The main process does the stage; the others encode with it, and leave when it ends.
"""

import logging
import sys
import warnings
from typing import Any

from medembed import stages
from medembed.errors import InputError, MedEmbedError
from medembed.processes import arguments, check_together, processes
from medembed.recipe import ModelRecipe
from medembed.recipe_file import load
from medembed.retrieval.together import follow, leading
from medembed.run import Record, Run


def main() -> None:
    options = arguments("evaluate", "Model → results of base and tuned.")
    try:
        recipe = load(options.recipe, tuple(options.overrides))
        if not isinstance(recipe, ModelRecipe):
            raise InputError.of(f"is the recipe of a {recipe.kind}; only models are evaluated", str(options.recipe))
        check_together()
        _evaluate(recipe, Run(recipe, options.run_dir))
    except MedEmbedError as error:
        if processes().is_main_process:
            for fault in error.faults:
                sys.stderr.write(f"error: {fault}\n")
        sys.exit(error.exit_code)
    finally:
        processes().destroy_process_group()


def _evaluate(recipe: ModelRecipe, run: Run) -> None:
    warnings.simplefilter("ignore", FutureWarning)  # what libraries say to each other
    logging.basicConfig(level=logging.WARNING if processes().is_main_process else logging.ERROR, format="%(message)s")
    if processes().is_main_process:
        logging.getLogger("medembed").setLevel(logging.INFO)
        with leading():
            stages.perform("evaluate", recipe, run, skipping=_already_done)
    else:
        follow(_Models())
    processes().wait_for_everyone()  # a process that leaves while another still hears from it brings that one down


class _Models:
    """The model of a job: loaded when the jobs turn to another one."""

    def __init__(self) -> None:
        self._named: Any = None
        self._model: Any = None

    def __call__(self, job: Any) -> Any:
        if job.named != self._named:
            self._named, self._model = job.named, job.named.encoder()
        return self._model


def _already_done(record: Record) -> None:
    logging.getLogger("medembed.evaluate").info("evaluate was done before: same recipe, same inputs")


if __name__ == "__main__":
    main()
