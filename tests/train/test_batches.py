"""Global batches: what may stand together, and that processes share what one would see."""

from collections import Counter
from itertools import chain

import numpy as np
from accelerate.data_loader import BatchSamplerShard
from hypothesis import given, settings
from hypothesis import strategies as st

from medembed.train.batches import GlobalBatches, Ids


@st.composite
def rows(draw: st.DrawFn) -> Ids:
    """Rows of a query, a positive and negatives; no text twice in a row, many texts in several rows."""
    count, negatives = draw(st.integers(1, 60)), draw(st.integers(0, 3))
    texts = st.lists(
        st.integers(0, draw(st.integers(8, 200))), min_size=2 + negatives, max_size=2 + negatives, unique=True
    )
    return np.array(draw(st.lists(texts, min_size=count, max_size=count)), dtype=np.int64)


def epochs(texts: Ids, per_process: int, processes: int, seed: int) -> list[list[list[int]]]:
    """The global batches of three epochs."""
    batches = GlobalBatches(texts, per_process * processes, processes, seed)
    out = []
    for epoch in range(3):
        batches.set_epoch(epoch)
        slices = list(batches)
        assert len(slices) == len(batches) == batches.steps * processes
        assert all(len(part) == per_process for part in slices)
        out.append([list(chain(*slices[i : i + processes])) for i in range(0, len(slices), processes)])
    return out


@settings(max_examples=150, deadline=None)
@given(rows(), st.integers(1, 4), st.integers(1, 3), st.integers(0, 9))
def test_no_query_or_positive_stands_twice_in_a_global_batch(texts: Ids, size: int, processes: int, seed: int) -> None:
    for batch in chain(*epochs(texts, size, processes, seed)):
        for row in batch:
            others = {int(text) for other in batch if other != row for text in texts[other]}
            assert others.isdisjoint(texts[row, :2].tolist())


@settings(max_examples=100, deadline=None)
@given(rows(), st.integers(1, 4), st.integers(1, 3), st.integers(0, 9))
def test_an_epoch_repeats_rows_in_one_batch_alone_and_all_epochs_are_equally_long(
    texts: Ids, size: int, processes: int, seed: int
) -> None:
    found = epochs(texts, size, processes, seed)
    for epoch in found:
        used = Counter(row for batch in epoch for row in batch)
        repeated = {row for row, times in used.items() if times > 1}
        assert max(used.values(), default=0) <= 2
        assert not repeated or any(repeated <= set(batch) for batch in epoch)
        assert len(epoch) == len(found[0])
    assert GlobalBatches(texts, size * processes, processes, seed).rows == len(set(chain(*found[0])))


@given(st.integers(1, 80), st.integers(1, 8), st.integers(0, 9))
def test_rows_that_share_nothing_are_all_used_if_they_fill_one_batch(count: int, size: int, seed: int) -> None:
    texts = np.arange(3 * count).reshape(count, 3)
    for epoch in epochs(texts, size, 1, seed):
        assert set(chain(*epoch)) == (set(range(count)) if count >= size else set())
        assert len(epoch) == (-(-count // size) if count >= size else 0)


@settings(deadline=None)
@given(rows(), st.integers(1, 3), st.integers(1, 3), st.integers(0, 9))
def test_the_processes_together_see_the_batches_that_one_process_sees(
    texts: Ids, size: int, processes: int, seed: int
) -> None:
    one = list(GlobalBatches(texts, size * processes, 1, seed))
    shares = [
        list(
            BatchSamplerShard(
                GlobalBatches(texts, size * processes, processes, seed), processes, rank, even_batches=False
            )
        )
        for rank in range(processes)
    ]
    assert [list(chain(*parts)) for parts in zip(*shares, strict=True)] == one


def test_epochs_differ_and_the_same_seed_gives_the_same_ones() -> None:
    texts = np.arange(200).reshape(100, 2)
    first = epochs(texts, 5, 2, seed=1)
    assert first[0] != first[1] != first[2]
    assert first == epochs(texts, 5, 2, seed=1) != epochs(texts, 5, 2, seed=2)


def test_a_small_corpus_whose_negatives_repeat_still_fills_most_of_its_batches() -> None:
    draw = np.random.default_rng(0)
    passages = [draw.choice(24, 5, replace=False) + 24 * (n // 36) for n in range(432)]  # 12 topics of 24 passages
    texts = np.column_stack([1000 + np.arange(432), np.array(passages)])
    batches = GlobalBatches(texts, 32, 1, seed=0)
    assert batches.rows > 400


def test_a_text_in_half_of_the_rows_does_not_keep_the_other_rows_out() -> None:
    texts = np.arange(4000).reshape(2000, 2)
    texts[::2, 1] = 0
    batches = GlobalBatches(texts, 50, 1, seed=0)
    assert batches.rows >= 1000 + 20  # the free rows, and one of the others a batch
