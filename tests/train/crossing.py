"""What the test of several processes runs, in each of them: every loss over the same global batches, dealt out; losses and weights as JSON.

`python -m tests.train.crossing MODEL FOLDER`, alone or through `accelerate launch`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from sentence_transformers import MultiVectorEncoder, SentenceTransformer
from sentence_transformers.util import all_gather
from torch.nn.parallel import DistributedDataParallel

from medembed.recipe import Guide, Train
from medembed.train.data import Rows
from medembed.train.guide import guided
from medembed.train.losses import loss_of
from tests.train.test_losses import DENSE, LATE, ROWS, features, guide, rows, settings

STEPS, EVERY = 20, 3  # each third batch is a smaller one, as the last of an epoch may be


def main(model: str, folder: Path) -> None:
    state = PartialState(cpu=True)
    told: dict[str, Any] = {name: trained(model, settings(said), state) for name, said in DENSE.items()}
    told |= {f"late {name}": trained(model, settings(said), state) for name, said in LATE.items()}
    seen = guided(words_alike(), Guide(model={"model": model}, relative_margin=0.1), folder / "embeddings")
    told["guide"] = [float(np.abs(seen.queries.astype(float)).sum()), float(np.abs(seen.passages.astype(float)).sum())]
    told["processes"] = state.num_processes
    (folder / f"{state.num_processes}-{state.process_index}.json").write_text(json.dumps(told), encoding="utf-8")
    state.wait_for_everyone()
    state.destroy_process_group()


def trained(path: str, train: Train, state: PartialState) -> tuple[list[float], list[float]]:
    """The loss of each step, and the sum of each parameter at the end, after AdamW at a rate that changes much."""
    torch.manual_seed(0)
    model = (MultiVectorEncoder if train.method == "late-interaction" else SentenceTransformer)(path, device="cpu")
    data = rows()
    data.guide = guide(train.guide.relative_margin) if train.guide else None
    loss = loss_of(train, model, data)
    if state.num_processes > 1:
        loss.model = DistributedDataParallel(model, find_unused_parameters=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for step in range(STEPS):
        size = ROWS - 1 if step % EVERY else ROWS - 2  # an even share for each process, then an uneven one
        batch = np.random.default_rng(step).permutation(ROWS)[:size]
        mine = np.array_split(batch, state.num_processes)[state.process_index]
        value = loss(*features(model, data, mine.tolist()))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        each = all_gather(value.detach().reshape(1)) if state.num_processes > 1 else value.detach()
        losses.append(each.mean().item())  # as the trainer averages them
    return losses, [parameter.double().norm().item() for parameter in model.parameters()]


def words_alike() -> Rows:
    """Rows whose queries are the first half of their passages: a guide of random weights finds them by their words."""
    data = rows(whole=True)
    half = {"query": [text[: len(text) // 2 + 1] for text in data.dataset["positive"]]}
    data.dataset = data.dataset.map(lambda row, at: {"query": half["query"][at]}, with_indices=True)
    return data


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
