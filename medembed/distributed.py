"""A stage in every process of `accelerate launch -m medembed.<stage> RECIPE [key=value ...] [--run-dir DIR]`.

The main process does the stage; the others work for it (`retrieval.together`), and leave when it ends. Training has its own.
"""

import logging
import sys
import warnings
from collections.abc import Callable
from typing import Any

from medembed import stages
from medembed.errors import InputError, MedEmbedError
from medembed.processes import arguments, check_together, processes
from medembed.recipe import Recipe
from medembed.recipe_file import load
from medembed.retrieval import together
from medembed.run import Record, Run

Models = Callable[[Recipe], Callable[[Any], Any]]  # recipe → (job → the model that it needs)


def work(stage: str, description: str, models_of: Models) -> None:
    """Do `stage` in this process, the main one, or its share in any other. Ends the process when that fails."""
    options = arguments(stage, description)
    try:
        recipe = load(options.recipe, tuple(options.overrides))
        if stage not in stages.stages_of(recipe):
            raise InputError.of(f"is the recipe of a {recipe.kind}, without a stage `{stage}`", str(options.recipe))
        check_together()
        _work(stage, recipe, Run(recipe, options.run_dir), models_of)
    except MedEmbedError as error:
        if processes().is_main_process:
            for fault in error.faults:
                sys.stderr.write(f"error: {fault}\n")
        sys.exit(error.exit_code)
    finally:
        processes().destroy_process_group()


def speak_once() -> None:
    """What libraries say to each other is not said; what we say, the main process alone does."""
    warnings.simplefilter("ignore", FutureWarning)
    logging.basicConfig(level=logging.WARNING if processes().is_main_process else logging.ERROR, format="%(message)s")
    if processes().is_main_process:
        logging.getLogger("medembed").setLevel(logging.INFO)


def _work(stage: str, recipe: Recipe, run: Run, models_of: Models) -> None:
    speak_once()
    if processes().is_main_process:
        with together.leading():
            stages.perform(stage, recipe, run, skipping=_already_done)
    else:
        together.follow(models_of(recipe))
    processes().wait_for_everyone()  # a process that leaves while another still hears from it brings that one down


def _already_done(record: Record) -> None:
    logging.getLogger(f"medembed.{record.stage}").info(f"{record.stage} was done before: same recipe, same inputs")
