"""Pictures of results: rows of figures in, one drawing out as PNG and as SVG.

Readable in light and in dark mode: the SVG follows the reader's colour scheme, the PNG stands on a light ground of its own. Colours are
those of Okabe and Ito (2008), which colour-blind readers tell apart; marks tell forms by their shape. Equal rows give equal bytes.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medembed.evaluate.compressed import Form
from medembed.run import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKS = {"float32": "o", "int8": "s", "binary, rescored": "D", "binary": "^"}
INK, GROUND = "#1f2328", "#ffffff"  # text and lines; what they stand on
IN_THE_DARK = {INK: "#e6edf3", GROUND: "#0d1117"}


def draw_compressed(path: Path, models: Mapping[str, Mapping[Form, float]]) -> list[Path]:
    """Draw nDCG@10 (0 to 1) of each model over the bytes that one passage takes in an index, in each `Form`.

    The files written: `path` with the suffixes .png and .svg; none, with a line in the log, where matplotlib is not installed.
    """
    figure = new_figure(8, 4.6)
    if figure is None:
        return []
    axes = figure.subplots()
    for colour, (model, found) in zip(PALETTE * len(models), models.items(), strict=False):
        for name, mark in MARKS.items():
            points = sorted((form.bytes, 100 * score) for form, score in found.items() if form.name == name)
            if points:
                line = "-" if name == "float32" else ":"
                axes.plot(*zip(*points, strict=True), color=colour, marker=mark, markersize=6, linestyle=line)
        axes.plot([], [], color=colour, linewidth=3, label=model)
    for name, mark in MARKS.items():
        if any(form.name == name for found in models.values() for form in found):
            axes.plot([], [], color=INK, marker=mark, linestyle="-" if name == "float32" else ":", label=name)
    axes.set(
        xlabel="bytes of one passage in an index", ylabel="nDCG@10 × 100", title="Quality against size of the index"
    )
    _doubling(axes, sorted({form.bytes for found in models.values() for form in found}))
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), labelcolor=INK)
    return save(figure, path)


def new_figure(width: float, height: float) -> "Figure | None":
    """An empty figure, in inches; None, with a line in the log, where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        log.info("no picture of the results: matplotlib is not installed (`pip install 'medembed[plots]'`)")
        return None
    return Figure(figsize=(width, height), dpi=150, facecolor=GROUND, layout="constrained")


def save(figure: "Figure", path: Path) -> list[Path]:
    """Write the figure beside `path` as .png and .svg: in our ink, without the time of day."""
    import matplotlib as mpl

    for axes in figure.axes:
        _in_ink(axes)
    written = []
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "medembed", "font.family": "sans-serif"}):
        for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None, "Creator": None})):
            target = path.with_suffix(suffix)
            with replacing(target) as temporary:
                figure.savefig(temporary, format=suffix[1:], metadata=metadata)
                if suffix == ".svg":
                    temporary.write_text(_following_the_reader(temporary.read_text(encoding="utf-8")), encoding="utf-8")
            written.append(target)
    return written


def _following_the_reader(svg: str) -> str:
    """The drawing with colours for readers whose screens are dark."""
    rules = [
        f'[style*="{kind}: {light}"] {{ {kind}: {dark} !important; }}'
        for light, dark in IN_THE_DARK.items()
        for kind in ("fill", "stroke")
    ]
    style = f"<style>@media (prefers-color-scheme: dark) {{ {' '.join(rules)} }}</style>"
    head, tag, rest = svg.partition("<defs>")
    return f"{head}{style}{tag}{rest}"


def _in_ink(axes: "Axes") -> None:
    axes.set_facecolor(GROUND)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(which="both", colors=INK)
    for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
        text.set_color(INK)
    axes.grid(axis="y", color=INK, alpha=0.12)


def _doubling(axes: "Axes", sizes: Sequence[int]) -> None:
    """Doublings of size at equal distances, with the sizes that there are as ticks, as far as they do not crowd."""
    from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

    axes.set_xscale("log", base=2)
    ticks: list[int] = []
    for size in sizes:
        if not ticks or size >= 1.6 * ticks[-1]:
            ticks.append(size)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
