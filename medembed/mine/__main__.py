"""`accelerate launch [--config_file YAML] -m medembed.mine RECIPE [key=value ...] [--run-dir DIR]`, in every process of the launch.

The main process does the stage; the others encode with it, and leave when it ends.
"""

import logging
import sys
import warnings
from functools import cache, partial

from medembed import models, stages
from medembed.errors import InputError, MedEmbedError
from medembed.processes import arguments, check_together, processes
from medembed.recipe import DatasetRecipe
from medembed.recipe_file import load
from medembed.retrieval.together import follow, leading
from medembed.run import Record, Run


def main() -> None:
    options = arguments("mine", "Pairs → triplets.")
    try:
        recipe = load(options.recipe, tuple(options.overrides))
        if not isinstance(recipe, DatasetRecipe) or recipe.mine is None:
            raise InputError.of("is no recipe of a dataset with a section `mine`", str(options.recipe))
        check_together()
        _mine(recipe, Run(recipe, options.run_dir))
    except MedEmbedError as error:
        if processes().is_main_process:
            for fault in error.faults:
                sys.stderr.write(f"error: {fault}\n")
        sys.exit(error.exit_code)
    finally:
        processes().destroy_process_group()


def _mine(recipe: DatasetRecipe, run: Run) -> None:
    warnings.simplefilter("ignore", FutureWarning)  # what libraries say to each other
    logging.basicConfig(level=logging.WARNING if processes().is_main_process else logging.ERROR, format="%(message)s")
    if processes().is_main_process:
        logging.getLogger("medembed").setLevel(logging.INFO)
        with leading():
            stages.perform("mine", recipe, run, skipping=_already_done)
    elif recipe.mine and (retriever := recipe.mine.dense):
        loaded = cache(partial(models.load, retriever, method="dense"))
        follow(lambda job: loaded())
    processes().wait_for_everyone()  # a process that leaves while another still hears from it brings that one down


def _already_done(record: Record) -> None:
    logging.getLogger("medembed.mine").info("mine was done before: same recipe, same inputs")


if __name__ == "__main__":
    main()
