"""A stage in every process of `accelerate launch -m medembed.<stage> RECIPE [key=value ...] [--run-dir DIR]`.

The main process does the stage; the others work for it (`retrieval.together`), and leave when it ends. Training has its own.
"""

import logging
import sys
import warnings
from collections.abc import Callable
from typing import Any

from medembed.errors import MedEmbedError
from medembed.jobs import Job, check_stage, perform
from medembed.processes import arguments, check_together, processes
from medembed.recipe import Recipe
from medembed.retrieval import together
from medembed.run import Record

Models = Callable[[Recipe], Callable[[Any], Any]]  # recipe → (job → the model that it needs)


def work(stage: str, description: str, models_of: Models) -> Record | None:
    """Do `stage` in the main process, which tells of it and gets the record, or its share in any other. Ends those when that fails."""
    options = arguments(stage, description)
    try:
        job = Job.of(options.recipe, options.overrides, options.run_dir)
        check_stage(stage, job)
        check_together()
        return _work(stage, job, models_of)
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


def _work(stage: str, job: Job, models_of: Models) -> Record | None:
    speak_once()
    record = None
    if processes().is_main_process:
        with together.leading():
            record = perform(stage, job)
    else:
        together.follow(models_of(job.recipe))
    processes().wait_for_everyone()  # a process that leaves while another still hears from it brings that one down
    return record
