"""fastembed, run by export.py in its own environment: folder, file, texts, batch, threads, rounds in; the best times and the tokens out."""

import json
import sys
import time
from pathlib import Path

from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType

folder, file, texts, *sizes = sys.argv[1:]
batch, threads, rounds = map(int, sizes)
TextEmbedding.add_custom_model(
    model="medembed/benchmark",
    pooling=PoolingType.DISABLED,
    normalization=False,
    sources=ModelSource(hf="medembed/benchmark"),
    dim=1,
    model_file=file,
    output_name="sentence_embedding",
)
model = TextEmbedding("medembed/benchmark", specific_model_path=folder, threads=threads)
read = json.loads(Path(texts).read_text())
wall = cpu = float("inf")
for number in range(rounds + 1):
    at, cpu_at = time.perf_counter(), time.process_time()
    list(model.embed(read, batch_size=batch))
    if number:
        wall, cpu = min(wall, time.perf_counter() - at), min(cpu, time.process_time() - cpu_at)
print(json.dumps({"wall": wall, "cpu": cpu, "tokens": model.token_count(read)}))
