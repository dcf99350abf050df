"""`accelerate launch [--config_file YAML] -m medembed.mine RECIPE [key=value ...] [--run-dir DIR]`, in every process of the launch.

The main process does the stage; the others encode with it, and leave when it ends.
"""

import argparse
import logging
import sys
import warnings
from pathlib import Path

from medembed import models, stages
from medembed.errors import InputError, MedEmbedError
from medembed.processes import check_together, processes
from medembed.recipe import DatasetRecipe
from medembed.recipe_file import load
from medembed.retrieval.together import dismiss, follow
from medembed.run import Record, Run


def main() -> None:
    options = _options()
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
        try:
            stages.perform("mine", recipe, run, skipping=_already_done)
        finally:
            dismiss()
    elif recipe.mine and (retriever := recipe.mine.dense):
        follow(lambda: models.load(retriever))
    processes().wait_for_everyone()  # a process that leaves while another still hears from it brings that one down


def _already_done(record: Record) -> None:
    logging.getLogger("medembed.mine").info("mine was done before: same recipe, same inputs")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="accelerate launch -m medembed.mine", description="Pairs → triplets.")
    parser.add_argument("recipe", type=Path, metavar="RECIPE")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--run-dir", type=Path, metavar="DIR", help="else runs/<name of the recipe>")
    return parser.parse_intermixed_args()


if __name__ == "__main__":
    main()
