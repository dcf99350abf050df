"""`accelerate launch [--config_file YAML] -m medembed.train RECIPE [key=value ...] [--run-dir DIR]`, in every process of the launch.

The main process owns the run folder, measures the base, writes model and record, and tells of them as `medembed train` does, with
the command that comes next; the others wait for it, then train along. Exit codes are those of `medembed`: 143 after SIGTERM.
"""

import shlex
import sys

from medembed import report, stages
from medembed.distributed import speak_once
from medembed.errors import InputError, MedEmbedError, Stopped
from medembed.jobs import echo
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
        skipped: list[Record] = []
        record = stages.perform("train", recipe, run, skipped.append)
        if skipped:
            start_together(there_is_work=False)
        clean(run)
        if leash() is None:  # else who launched us tells it
            echo(report.line(record, skipped=bool(skipped)))
            echo(f"next       {shlex.join(['medembed', 'evaluate', *sys.argv[1:]])}")
    else:
        there_is_work, checkpoint = start_together()
        if there_is_work:
            follow(recipe, run, checkpoint)
    processes().wait_for_everyone()  # a process that leaves while another still hears from it brings that one down
    processes().destroy_process_group()


def _tell(error: MedEmbedError | Stopped) -> None:
    if tell_launcher(error):
        return
    lines = [f"error: {fault}" for fault in error.faults] if isinstance(error, MedEmbedError) else [str(error)]
    sys.stderr.write("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main()
