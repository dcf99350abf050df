"""What mining found, in numbers and in a picture: how far negatives lie below their positives, and from which ranks they come."""

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medembed.mine.negatives import MARGIN, POSITIVE, REASONS, Flags
from medembed.mine.pools import Pools
from medembed.mine.teacher import Graded
from medembed.recipe import Mine
from medembed.run import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

log = logging.getLogger(__name__)

BLUE, ORANGE = "#0072B2", "#D55E00"  # told apart by colour-blind readers too (Okabe and Ito 2008)
BINS = 40


def counts(pools: Pools, chosen: Flags, options: Mine) -> dict[str, int]:
    """Rows that did not find all their negatives by rank, as the recipe lets them: kept with fewer, or filled at random."""
    each = chosen.sum(axis=1)
    if options.fewer == "keep":
        return {"with fewer negatives": int(((each > 0) & (each < options.negatives)).sum())}
    if options.fewer == "fill":
        return {"filled at random": int((chosen & (pools.ranks == 0)).any(axis=1).sum())}
    return {}


def facts(pools: Pools, chosen: Flags, graded: Graded | None) -> dict[str, Any]:
    """Distributions over the triplets (least, deciles, most), and what became of the candidates in the window of ranks."""
    rows = chosen.any(axis=1)
    told: dict[str, Any] = {
        "positive_scores": deciles(pools.positives[rows]),
        "negative_scores": deciles(pools.scores[chosen]),
        "ranks": deciles(pools.ranks[chosen & (pools.ranks > 0)]),
    }
    if graded:
        told["positive_teacher_scores"] = deciles(graded.positives[rows])
        told["negative_teacher_scores"] = deciles(graded.negatives[chosen])
    unlabelled = pools.found["in all"] - pools.found[REASONS[POSITIVE]]
    share = pools.found[REASONS[MARGIN]] / unlabelled if unlabelled else 0.0
    return told | {"candidates": dict(pools.found), "suspected_false_negatives": round(share, 4)}


def deciles(values: "np.ndarray[Any, np.dtype[Any]]") -> list[float]:
    """Least, nine deciles and most of `values`; nothing of none."""
    if not len(values):
        return []
    return [round(float(value), 4) for value in np.quantile(values.astype(np.float64), np.linspace(0, 1, 11))]


def draw(path: Path, pools: Pools, chosen: Flags, graded: Graded | None) -> bool:
    """Draw the distributions as a PNG; False, with a line in the log, where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        log.info("no picture of the mining: matplotlib is not installed (`pip install 'medembed[plots]'`)")
        return False
    rows = chosen.any(axis=1)
    positives, negatives = int(rows.sum()), int(chosen.sum())
    figure = Figure(figsize=(12 if graded else 8, 3.8), dpi=150, facecolor="white", layout="constrained")
    figure.suptitle(
        f"{positives:,} queries, each with its positive and the hard negatives mined for it ({negatives:,})"
    )
    axes = figure.subplots(1, 3 if graded else 2)
    _scores(
        axes[0],
        pools.positives[rows],
        pools.scores[chosen],
        "How near it is to its query",
        "score of the retriever",
    )
    if graded:
        teacher = (graded.positives[rows], graded.negatives[chosen])
        _scores(axes[1], *teacher, "How the teacher grades it", "score of the teacher (logit)")
    _ranks(axes[-1], pools.ranks[chosen])
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
    with replacing(path) as temporary:
        # Without the version of the library in it, equal numbers give equal bytes.
        figure.savefig(temporary, format="png", metadata={"Software": None})
    return True


def _scores(axes: "Axes", positives: Any, negatives: Any, title: str, name: str) -> None:
    both = np.concatenate([positives, negatives])
    bins = np.linspace(both.min(), both.max() + 1e-6, BINS + 1)
    for values, colour, label in ((negatives, ORANGE, "hard negatives"), (positives, BLUE, "positives")):
        share = 100 * np.histogram(values, bins)[0] / len(values)
        axes.stairs(share, bins, color=colour, alpha=0.25, fill=True)
        axes.stairs(share, bins, color=colour, linewidth=1.5, label=label)
    axes.set(title=title, xlabel=name, ylabel="% of the passages")
    axes.margins(y=0.3)  # the legend stands above the curves
    axes.legend(frameon=False, loc="upper center", ncols=2)


def _ranks(axes: "Axes", ranks: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    found = ranks[ranks > 0]
    bars, bins = np.histogram(found, edges(int(found.max(initial=1))))
    axes.stairs(100 * bars / len(ranks), bins, color=ORANGE, fill=True)
    axes.set(
        title="Where hard negatives were ranked",
        xlabel="rank of the hard negative",
        ylabel="% of the hard negatives",
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(found) < len(ranks):
        drawn = f"{1 - len(found) / len(ranks):.1%} were drawn at random"
        axes.text(1, 1, drawn, transform=axes.transAxes, ha="right", va="top")


def edges(last: int) -> list[float]:
    """Where the bars of ranks 1 to `last` begin and end: at most `BINS` bars of equally many ranks."""
    width = math.ceil(last / BINS)
    return [0.5 + width * bar for bar in range(math.ceil(last / width) + 1)]
