"""A block of texts → what a model makes of each, in batches of about one length; on a CPU one batch on each core.

torch shares every batch among the cores, which wait for each other at every layer. With a batch each they do not, and numbers are the
same on any number of cores. Measured on two; a block of few or short texts has fewer batches than a large machine has cores.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Lock
from typing import Any

CPU_TOKENS = 1024  # of a batch, padding included: what a layer makes of it stays in a core's cache


def encoded(model: Any, method: str, texts: list[str], batch_size: int, **settings: Any) -> list[Any]:
    """What `method` of the model (`encode`, `encode_query`, `encode_document`) gives for each text, in the order of the texts."""
    import torch

    if not texts:
        return []
    settings = {"show_progress_bar": False, **settings}
    if not isinstance(model, torch.nn.Module) or model.device.type != "cpu":
        return list(getattr(model, method)(texts, batch_size=batch_size, **settings))  # sorted by length there
    said = settings.get("prompt")
    counts = token_counts(model, texts, [said] if said else list(model.prompts.values()))
    parts = list(batches(counts, batch_size, CPU_TOKENS))

    def encode(twin: Any, part: list[int]) -> list[Any]:
        return list(getattr(twin, method)([texts[i] for i in part], batch_size=len(part), **settings))

    rows: list[Any] = [None] * len(texts)
    for part, made in zip(parts, _on_each_core(model, encode, parts), strict=True):
        for i, row in zip(part, made, strict=True):
            rows[i] = row
    return rows


def batches(lengths: Sequence[int], batch_size: int, budget: int) -> Iterator[list[int]]:
    """Positions of texts, longest first, in batches of `batch_size` at most that hold `budget` tokens at most, padding included."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    start = 0
    while start < len(order):
        longest = max(1, lengths[order[start]])
        size = min(batch_size, max(1, budget // longest))
        yield order[start : start + size]
        start += size


def token_counts(model: Any, texts: list[str], prompts: Sequence[str] = ()) -> list[int]:
    """How many tokens the model sees of each text with the longest of the prompts before it; a guess from its characters, where it has
    no tokenizer of the usual kind.
    """
    from transformers import PreTrainedTokenizerBase

    tokenizer, longest = getattr(model, "tokenizer", None), model.max_seq_length
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        return [len(text) // 4 for text in texts]
    found = tokenizer(texts, truncation=longest is not None, max_length=longest, verbose=False)["input_ids"]
    more = max((len(tokenizer.tokenize(prompt)) for prompt in prompts if prompt), default=0)
    return [min(len(ids) + more, longest or len(ids) + more) for ids in found]


def _on_each_core(model: Any, encode: Callable[[Any, list[int]], Any], parts: list[list[int]]) -> list[Any]:
    """`encode(twin, part)` for each of `parts`, in their order; torch's threads are as they were afterwards."""
    import torch

    threads = torch.get_num_threads()
    free: SimpleQueue[Any] = SimpleQueue()
    try:
        for twin in _twins(model, min(threads, len(parts))):
            free.put(twin)
    except (
        TypeError,
        RuntimeError,
        copy.Error,
    ):  # a model of others holds what cannot be copied: a lock, a part of a graph
        return [encode(model, part) for part in parts]

    def work(part: list[int]) -> Any:
        twin = free.get()
        try:
            return encode(twin, part)
        finally:
            free.put(twin)

    try:
        with ThreadPoolExecutor(free.qsize(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, parts))  # what stops one ends the others that have not begun
    finally:
        torch.set_num_threads(threads)  # the threads above have changed it for all that start after them


def _twins(model: Any, number: int) -> list[Any]:
    """So many models of one set of weights and one tokenizer: neither the library's modules nor tokenizers bear two threads at once."""
    shared = [*model.parameters(), *model.buffers(), getattr(model, "tokenizer", None)]
    preprocess, one_at_a_time = model.preprocess, Lock()

    def preprocessed(*args: Any, **kwargs: Any) -> Any:
        with one_at_a_time:
            return preprocess(*args, **kwargs)

    twins = [copy.deepcopy(model, {id(each): each for each in shared}) for _ in range(number)]
    for twin in twins:
        twin.preprocess = preprocessed
    return twins
