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
from datasets import Dataset
from sentence_transformers import MultiVectorEncoder, SentenceTransformer
from sentence_transformers.util import all_gather
from torch.nn.parallel import DistributedDataParallel

from medembed.recipe import Guide, Train
from medembed.train.data import Rows
from medembed.train.guide import guided
from medembed.train.losses import loss_of
from tests.train.test_losses import DENSE, LATE, ROWS, features, guide, rows, settings

LOSSES: dict[str, dict[str, Any]] = {  # each term alone has been tested in one process
    "contrastive": DENSE["contrastive"],
    "all": DENSE["guided"] | DENSE["matryoshka"],
    "late all": LATE["guided"],
}
STEPS = 20


def main(model: str, folder: Path) -> None:
    state = PartialState(cpu=True)
    seen = guided(rows_of_twins(), Guide(model={"model": model}), folder / "embeddings")
    told: dict[str, Any] = {"processes": state.num_processes, "guide": [seen.queries.tolist(), seen.passages.tolist()]}
    told |= {name: trained(model, settings(said), state) for name, said in LOSSES.items()}
    (folder / f"{state.num_processes}-{state.process_index}.json").write_text(json.dumps(told), encoding="utf-8")
    state.wait_for_everyone()
    state.destroy_process_group()


def trained(path: str, train: Train, state: PartialState) -> tuple[list[float], list[float]]:
    """The loss of each step, and the norm of each parameter at the end, after AdamW at a rate that changes much."""
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
        size = (
            ROWS - 2 if step % 3 == 2 else ROWS - 1
        )  # each third batch is smaller, and two processes have unequal parts of it
        batch = np.random.default_rng(step).permutation(ROWS)[:size]
        mine = np.array_split(batch, state.num_processes)[state.process_index]
        value = loss(*features(model, data, mine.tolist()))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        each = all_gather(value.detach().reshape(1)) if state.num_processes > 1 else value.detach()
        losses.append(each.mean().item())  # as the trainer averages them
    return losses, [parameter.double().norm().item() for parameter in model.parameters()]


def rows_of_twins() -> Rows:
    """Rows whose queries are their passages: even a guide of random weights finds those."""
    data = rows(whole=True)
    data.dataset = Dataset.from_dict(data.dataset.to_dict() | {"query": data.dataset["positive"][:]})
    return data


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
