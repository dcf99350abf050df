"""FlagEmbedding's own trainer, run in its own environment, with the clock of `benchmarks/train.py` around its steps.

python flagembedding_train.py MODEL FOLDER BATCH LENGTH WARM_UP STEPS
"""

import json
import runpy
import sys
import time
from pathlib import Path

from transformers import Trainer


def main(model: str, folder: Path, batch: int, length: int, warm_up: int, steps: int) -> None:
    step, times, begun = Trainer.training_step, [], 0

    def clocked(*given, **settings):
        nonlocal begun
        if begun in (warm_up, warm_up + steps):
            times.append((time.perf_counter(), time.process_time()))
        begun += 1
        return step(*given, **settings)

    Trainer.training_step = clocked
    settings = {
        "model_name_or_path": model,
        "train_data": folder / "pairs.jsonl",
        "cache_path": folder / "cache",
        "output_dir": folder / f"flagembedding-{time.time_ns()}",
        "train_group_size": 1,
        "query_max_len": length,
        "passage_max_len": length,
        "per_device_train_batch_size": batch,
        "max_steps": warm_up + steps + 1,
        "sentence_pooling_method": "mean",
        "use_cpu": True,
        "save_strategy": "no",
    }
    sys.argv = ["train", *(f"--{name}={value}" for name, value in settings.items())]
    runpy.run_module("FlagEmbedding.finetune.embedder.encoder_only.base", run_name="__main__")
    (wall, cpu), (wall_after, cpu_after) = times
    (folder / "told.json").write_text(json.dumps({"wall": wall_after - wall, "cpu": cpu_after - cpu}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))
