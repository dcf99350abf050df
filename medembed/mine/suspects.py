"""Negatives that score almost as high as the positive: which they are, and what follows when a judge says that one answers the query."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from medembed.mine import teacher
from medembed.mine.corpus import Corpus, Pairs
from medembed.mine.negatives import Codes, Flags, Rules, ceiling
from medembed.mine.pools import Pools
from medembed.mine.teacher import Graded
from medembed.recipe import Generate, Judge, Mine
from medembed.retrieval.embeddings import Integers

ANSWERS, DOES_NOT, NO_VERDICT = range(1, 4)  # 0: not asked
VERDICTS = {ANSWERS: "answer the query", DOES_NOT: "do not", NO_VERDICT: "no verdict"}


class Verdicts(NamedTuple):
    """What the judge says of the pools' passages."""

    codes: Codes  # (Q, M)
    facts: dict[str, Any]  # who judged, and how often it said what


def judged(
    pairs: Pairs, corpus: Corpus, pools: Pools, left: Flags, servers: Generate, options: Judge, journal: Path
) -> Verdicts:
    """What the judge says of the suspicious negatives; a query with a passage is asked about once."""
    from medembed.mine.judge import Question, judge

    rows, places = np.nonzero(suspicious(pools, left, options))
    asked = np.stack([pairs.query_numbers[rows], pools.ids[rows, places]], axis=1)
    _, first, back = np.unique(asked, axis=0, return_index=True, return_inverse=True)
    questions = [
        Question(pairs.queries[row], corpus.ids[int(passage)].as_py(), corpus.texts[passage])
        for row, passage in zip(rows[first], pools.ids[rows[first], places[first]], strict=True)
    ]
    said = judge(questions, servers, options, journal)
    codes = np.zeros(pools.ids.shape, np.int8)
    codes[rows, places] = np.array(said.verdicts, np.int8)[back.reshape(-1)]
    counts = {name: said.verdicts.count(code) for code, name in VERDICTS.items()}
    who = {"model": said.model, "prompt_version": said.prompt_version, "asked": len(questions)}
    return Verdicts(codes, who | counts)


def suspicious(pools: Pools, left: Flags, judge: Judge) -> Flags:
    """Which negatives, of those `left` (Q, M), score above the judge's share of their positive's score."""
    suspects: Flags = left & (pools.scores > ceiling(pools.positives, judge.above)[:, None])
    return suspects


def dropped(pairs: Pairs, corpus: Corpus, pools: Pools, verdicts: Verdicts) -> Flags:
    """Which negatives (Q, M) go: those that answer the query, in whatever row of it they stand, and those without a verdict."""
    asked = _numbered(pairs.query_numbers, corpus, pools.ids)
    gone: Flags = np.isin(asked, asked[verdicts.codes == ANSWERS]) | (verdicts.codes == NO_VERDICT)
    return gone


def unjudged(
    pairs: Pairs, corpus: Corpus, pools: Pools, verdicts: Verdicts, rows: Integers, drawn: Pools, judge: Judge
) -> Flags:
    """Which passages drawn for the pairs `rows` are suspicious and were not asked about, or are known to answer: (S, M)."""
    asked = slice(len(verdicts.codes))  # the rows behind are relabelled ones
    known = _numbered(pairs.query_numbers[asked], corpus, pools.ids[asked])[verdicts.codes == ANSWERS]
    return suspicious(drawn, drawn.ids >= 0, judge) | np.isin(
        _numbered(pairs.query_numbers[rows], corpus, drawn.ids), known
    )


def _numbered(queries: Integers, corpus: Corpus, ids: Integers) -> Integers:
    """A number for each query (B,) with the text of each passage (B, M)."""
    numbers: Integers = queries[:, None] * (int(corpus.text_numbers.max(initial=0)) + 1) + corpus.text_numbers[ids]
    return numbers


def relabelled(
    pairs: Pairs, corpus: Corpus, pools: Pools, graded: Graded | None, left: Flags, verdicts: Verdicts, options: Mine
) -> tuple[Pairs, Pools, Graded | None, Flags]:
    """All of these with more rows behind: each query with the passage that answers it as positive, against what is `left` of its pool.

    The rules hold for the new rows as for all others, and the new positives count for the old rows of their queries. An answer from a
    note of another split is left out: it would carry that split's text into this one.
    """
    rows, places = _answers(pairs, corpus, pools, verdicts)
    scores = pools.scores[rows, places]
    of = np.append(np.arange(len(pairs)), rows)  # whose pool each row has
    pairs, left = pairs.with_answers(rows, pools.ids[rows, places], corpus), left[of]
    pools = Pools(np.append(pools.positives, scores), pools.ids[of], pools.scores[of], pools.ranks[of], pools.found)
    rules = Rules(pairs, corpus, options)
    asking = rules.by_query[np.isin(pairs.query_numbers, pairs.query_numbers[rows])[rules.by_query]]  # (A,)
    left[asking] &= rules.codes(asking, pools.ids[asking], pools.scores[asking], pools.positives[asking]) == 0
    for i, place in np.argwhere(left[asking]).tolist():
        left[asking[i], place] = not rules.is_near(asking[i], pools.ids[asking[i], place])
    if graded and options.teacher:
        graded = Graded(np.append(graded.positives, graded.negatives[rows, places]), graded.negatives[of])
        left &= ~teacher.too_close(graded.negatives, graded.positives, options.teacher.relative_margin)
    return pairs, pools, graded, left


def _answers(pairs: Pairs, corpus: Corpus, pools: Pools, verdicts: Verdicts) -> tuple[Integers, Integers]:
    """Rows and places of the passages that answer, each once for a query and a split, unless another split has its note."""
    rows, places = np.nonzero(verdicts.codes == ANSWERS)
    notes = corpus.note_numbers[pools.ids[rows, places]]
    split_of_note = corpus.note_numbers[pairs.positives] * len(pairs.split_names) + pairs.splits
    elsewhere = np.zeros(len(rows), dtype=bool)
    for split in range(len(pairs.split_names)):
        elsewhere |= (split != pairs.splits[rows]) & np.isin(notes * len(pairs.split_names) + split, split_of_note)
    rows, places = rows[~elsewhere], places[~elsewhere]
    answer = np.stack([pairs.query_numbers[rows], pairs.splits[rows], corpus.text_numbers[pools.ids[rows, places]]])
    first = np.sort(np.unique(answer, axis=1, return_index=True)[1])
    return rows[first], places[first]
