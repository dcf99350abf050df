"""FlagEmbedding's own `hn_mine`, run in its own environment: it encodes as long as it is told, and its encoder is timed."""

import json
import runpy
import sys
import time
from pathlib import Path

from FlagEmbedding import FlagModel


def main(model: str, folder: Path, batch_size: int, max_length: int) -> None:
    seconds = 0.0
    encode = FlagModel.encode

    def timed(self, texts, **_):
        nonlocal seconds
        clock = time.perf_counter()
        found = encode(self, texts, batch_size=batch_size, max_length=max_length)
        seconds += time.perf_counter() - clock
        return found

    FlagModel.encode = FlagModel.encode_queries = timed
    files = {"input_file": "pairs.jsonl", "candidate_pool": "pool.jsonl", "output_file": "mined.jsonl"}
    options = [f"--{key}={folder / name}" for key, name in files.items()]
    ranks = ["--range_for_sampling=0-50", "--negative_number=4"]
    sys.argv = ["hn_mine", f"--model_name_or_path={model}", *options, *ranks]
    clock = time.perf_counter()
    runpy.run_module("FlagEmbedding.baai_general_embedding.finetune.hn_mine", run_name="__main__")
    wall = time.perf_counter() - clock
    (folder / "told.json").write_text(json.dumps({"encode": seconds, "wall": wall}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
