"""`accelerate launch [--config_file YAML] -m medembed.train RECIPE [key=value ...] [--run-dir DIR]`, in every process of the launch.

The main process owns the run folder, measures the base, and writes model and record; the others wait for it, then train along.
Exit codes are those of `medembed`: 143 after SIGTERM.
"""

import logging
import sys

from medembed import stages
from medembed.distributed import speak_once
from medembed.errors import InputError, MedEmbedError, Stopped
from medembed.processes import OfOneProcess, arguments, processes
from medembed.recipe import ModelRecipe
from medembed.recipe_file import load
from medembed.run import Record, Run
from medembed.train import clean, follow, start_together, stopping
from medembed.train.launch import leash, tell_launcher


def main() -> None:
    stopping.listen(leash())
    try:
        options = arguments("train", "Triplets → model.")
        recipe = load(options.recipe, tuple(options.overrides))
        if not isinstance(recipe, ModelRecipe):
            raise InputError.of(f"is the recipe of a {recipe.kind}; only models are trained", str(options.recipe))
        _train(recipe, Run(recipe, options.run_dir))
    except (MedEmbedError, Stopped) as error:
        if processes().is_main_process or isinstance(error, OfOneProcess):
            _tell(error)
        sys.exit(error.exit_code)


def _train(recipe: ModelRecipe, run: Run) -> None:
    speak_once()
    if processes().is_main_process:
        stages.perform("train", recipe, run, skipping=_already_done)
        clean(run)
    else:
        there_is_work, checkpoint = start_together()
        if there_is_work:
            follow(recipe, run, checkpoint)
    processes().wait_for_everyone()  # a process that leaves while another still hears from it brings that one down
    processes().destroy_process_group()


def _already_done(record: Record) -> None:
    logging.getLogger("medembed.train").info("train was done before: same recipe, same inputs")
    start_together(there_is_work=False)


def _tell(error: MedEmbedError | Stopped) -> None:
    if tell_launcher(error):
        return
    lines = [f"error: {fault}" for fault in error.faults] if isinstance(error, MedEmbedError) else [str(error)]
    sys.stderr.write("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main()
