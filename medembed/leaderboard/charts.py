"""The board in pictures: rows in, Vega-Lite specifications out, the same for the web page and for the SVG and PNG files.

Colours are those of Okabe and Ito (2008), told apart by colour-blind readers too; a shape says the same as a colour wherever one does.
"""

import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medembed.leaderboard.board import SIZES, UNKNOWN_SIZE, Board, Row
from medembed.leaderboard.markdown import gained, points, short
from medembed.leaderboard.tasks import HEADLINE
from medembed.run import replacing

Spec = dict[str, Any]

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"  # a name: nothing is fetched
VERSION = "6.4"
SHAPES = ["circle", "square", "triangle-up", "diamond"]
THEMES = {
    "light": {"background": "#ffffff", "text": "#1f2328", "faint": "#d1d9e0", "blue": "#0072B2"},
    "dark": {"background": "#0d1117", "text": "#f0f6fc", "faint": "#3d444d", "blue": "#56B4E9"},
}
WIDTH, HEIGHT = 640, 440
WORTH_SHOWING = 0.35  # of the many models, in a picture without them all
MATRIX = 18  # models in the head-to-head
GAP, LETTER, LINE = 8, 5.9, 11  # pixels: beside a point, a letter of its name, a line of text
FONT = "Helvetica, Arial, Liberation Sans, sans-serif"


@dataclass(frozen=True)
class Chart:
    """One picture: its file name, its title, and what it shows, for who cannot see it."""

    name: str
    title: str
    note: str
    about: str
    spec: Spec


def charts(board: Board) -> list[Chart]:
    """The charts for which something is known."""
    known = [row for row in board.rows if row.mean is not None]
    if not known:
        return []
    compared = [row for row in short(board, best=1) if row.mean is not None]
    found = [_sizes(compared), _head_to_head(compared)]
    if timed := [row for row in known if row.speed]:
        found.append(_speed(timed, board.device))
    if sized := [row for row in known if row.facts.dimensions and row.size in SIZES]:
        found.append(_dimensions(sized))
    return found


def themed(spec: Spec, theme: str) -> Spec:
    """`spec` in the colours of light or dark mode."""
    colours = THEMES[theme]
    axis: Spec = {"labelColor": colours["text"], "titleColor": colours["text"], "gridColor": colours["faint"]}
    axis |= {"domainColor": colours["faint"], "tickColor": colours["faint"], "labelFontSize": 12, "titleFontSize": 12}
    config = {
        "font": FONT,
        "background": colours["background"],
        "axis": axis | {"labelLimit": 320, "titleFontWeight": "normal"},
        "legend": {"labelColor": colours["text"], "titleColor": colours["text"], "labelFontSize": 12, "titleLimit": 0},
        "header": {"labelColor": colours["text"], "titleColor": colours["text"], "labelFontSize": 13},
        "title": {"color": colours["text"], "subtitleColor": colours["text"], "fontSize": 16, "anchor": "start"},
        "text": {"color": colours["text"]},
        "view": {"stroke": colours["faint"]},
        "range": {"category": [colours["blue"], "#E69F00", "#009E73", "#CC79A7"]},
        "style": {"rise": {"color": colours["blue"]}, "plain": {"color": colours["text"]}},
    }
    return spec | {"config": config}


def draw(found: list[Chart], folder: Path) -> None:
    """Each chart as `<name>-light.svg`, `<name>-dark.svg` and the same as PNG."""
    import vl_convert

    for chart in found:
        for theme in THEMES:
            titled = {"title": {"text": chart.title, "subtitle": chart.note}, **themed(chart.spec, theme)}
            svg = vl_convert.vegalite_to_svg(json.dumps(titled), vl_version=VERSION, allowed_base_urls=[])
            with replacing(folder / f"{chart.name}-{theme}.svg") as temporary:
                temporary.write_text(svg + "\n", encoding="utf-8")
            with replacing(folder / f"{chart.name}-{theme}.png") as temporary:
                temporary.write_bytes(vl_convert.svg_to_png(svg, scale=2))


# ---- the charts ------------------------------------------------------------------------------------------------------


def _sizes(rows: list[Row]) -> Chart:
    """Models of each size by their mean; where one was tuned from another of the same size, a bar shows from where to where."""
    means, names = {row.model: row.mean for row in rows}, _names(rows)
    values: list[Spec] = []
    for row in sorted(rows, key=lambda row: -(row.mean or 0)):
        base = means.get(row.base)
        told: Spec = {"model": row.model, "size": row.size, "mean": _points(row.mean), "zero-shot": _zero_shot(row)}
        told["base"] = _points(base) if base is not None else told["mean"]  # a bar of no length is not seen
        told["difference"] = gained(row.difference) if base is not None and row.difference is not None else ""
        label = f"{told['mean']:.1f} {told['difference']}"
        values.append(told | {"shown": names[row.model], "told": _told(row), "label": label})
    low = min((min(value["base"], value["mean"]) for value in values), default=0.0)
    scale = {"domain": [int(low) - 2, int(max((value["mean"] for value in values), default=100.0)) + 4], "nice": False}
    x = {"field": "mean", "type": "quantitative", "title": None, "scale": scale}
    marked = {
        "field": "zero-shot",
        "type": "nominal",
        "title": "trained on data of the five tasks",
        "scale": {"domain": ["no", "yes", "not declared"], "range": "category"},
        "legend": {"orient": "top"},
    }
    shapes = marked | {"scale": {"domain": ["no", "yes", "not declared"], "range": SHAPES[:3]}}
    tip = [{"field": "told", "title": "model"}]
    layers = [
        {
            "mark": {"type": "rule", "strokeWidth": 4, "opacity": 0.8, "style": "rise"},
            "encoding": {"x": x | {"field": "base"}, "x2": {"field": "mean"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 110, "opacity": 1},
            "encoding": {"x": x, "color": marked, "shape": shapes, "tooltip": tip, "description": {"field": "told"}},
        },
        {
            "mark": {"type": "text", "align": "left", "dx": 9, "fontSize": 12, "style": "plain"},
            "encoding": {"x": x, "text": {"field": "label"}},
        },
    ]
    groups = []
    for size in (*SIZES, UNKNOWN_SIZE):
        if of_size := [value for value in values if value["size"] == size]:
            order = [value["shown"] for value in of_size]
            group = {
                "title": {"text": size, "fontSize": 13, "frame": "group"},
                "data": {"values": of_size},
                "width": 460,
            }
            y = {"field": "shown", "type": "nominal", "title": None, "sort": order}
            groups.append(group | {"height": {"step": 20}, "encoding": {"y": y}, "layer": layers})
    spec = {"$schema": SCHEMA, "vconcat": groups, "bounds": "flush", "spacing": 48}
    about = "; ".join(value["told"] for value in values)
    note = "Mean nDCG@10 of the five tasks. A bar leads from a base model to what was tuned from it."
    return Chart("sizes", "The headline by size", note, f"Mean nDCG@10 of the five tasks. {about}.", spec)


def _head_to_head(rows: list[Row]) -> Chart:
    """Of how many tasks that both have does one model rank better than another?"""
    ranked = sorted(rows, key=lambda row: -(row.mean or 0))[:MATRIX]
    names = _names(ranked)
    order = list(names.values())
    values = []
    for row in ranked:
        for other in ranked:
            if row is not other and (share := won(row, other)) is not None:
                told = f"{row.model} is better than {other.model} on {share[0]:g} of {share[1]} tasks"
                pair = {"model": names[row.model], "other": names[other.model]}
                values.append(pair | {"share": round(100 * share[0] / share[1]), "told": told})
    axis = {"type": "nominal", "sort": order}
    colour = {
        "field": "share",
        "type": "quantitative",
        "scale": {"domain": [0, 50, 100], "range": ["#D55E00", "#F7F7F7", "#0072B2"]},
        "legend": None,  # the cells tell the numbers; and the name of a gradient is another in each drawing
    }
    encoding = {
        "y": axis | {"field": "model", "title": None},
        "x": axis | {"field": "other", "title": None, "axis": {"orient": "top", "labelAngle": -50}},
    }
    dark_ground = {
        "condition": {"test": "datum.share > 80 || datum.share < 15", "value": "#ffffff"},
        "value": "#1f2328",
    }
    spec = {
        "$schema": SCHEMA,
        "data": {"values": values},
        "width": {"step": 27},
        "height": {"step": 21},
        "encoding": encoding,
        "layer": [
            {
                "mark": {"type": "rect"},
                "encoding": {
                    "color": colour,
                    "tooltip": [{"field": "told", "title": "tasks"}],
                    "description": {"field": "told"},
                },
            },
            {
                "mark": {"type": "text", "fontSize": 11},
                "encoding": {"text": {"field": "share", "type": "quantitative"}, "color": dark_ground},
            },
        ],
    }
    note = "On how many of the tasks that both have (%) the model of the row is better than that of the column."
    about = f"For each pair of {len(ranked)} models, on how many of their common tasks the one scores higher than the other."
    return Chart("head-to-head", "Head to head", note, f"{about} By their mean: {', '.join(order)}.", spec)


def won(row: Row, other: Row) -> tuple[float, int] | None:
    """On how many tasks the first model is better, a draw being half, and how many these are: by the parts that both have."""
    wins, tasks = 0.0, 0
    for task, score in row.scores.items():
        if task in other.scores and (common := score.parts.keys() & other.scores[task].parts.keys()):
            lead = sum(score.parts[part] - other.scores[task].parts[part] for part in sorted(common))
            wins += 1 if lead > 0 else 0.5 if lead == 0 else 0
            tasks += 1
    return (wins, tasks) if tasks else None


def _speed(rows: list[Row], device: str) -> Chart:
    names = _names(rows)
    values = [_point(row, names, row.speed or 0, f"{row.speed:,.0f} embeddings a second") for row in rows]
    axis = {"title": "embeddings a second (log)", "axis": {"format": ",d", "labelOverlap": True}}
    return _scattered("speed", "Quality against speed", f"All measured on {device}.", values, axis)


def _dimensions(rows: list[Row]) -> Chart:
    """Of the many only the best of each size at each number of dimensions, and those that everybody compares with."""
    best: dict[tuple[str, int | None], Row] = {}
    for row in sorted(rows, key=lambda row: -(row.mean or 0)):
        if (row.mean or 0) >= WORTH_SHOWING:
            best.setdefault((row.size, row.facts.dimensions), row)
    shown = [row for row in rows if row.ours or row.anchor or row in best.values()]
    names = _names(shown)
    values = [_point(row, names, row.facts.dimensions or 0, f"{row.facts.dimensions} dimensions") for row in shown]
    axis = {"title": "dimensions of an embedding (log)", "axis": {"values": [2**power for power in range(5, 15)]}}
    note = f"Well-known models, and the best of each size and number of dimensions, from {100 * WORTH_SHOWING:.0f} points on."
    return _scattered("dimensions", "Quality against dimensions", note, values, axis)


def _scattered(name: str, title: str, note: str, values: list[Spec], x_axis: Spec) -> Chart:
    """Models as points by size, with names where there is room for them."""
    places, means = [value["x"] for value in values], [value["mean"] for value in values]
    across = (min(places) / 1.5, max(places) * 3)  # room for names on the right
    upwards = (min(means) // 1 - 1, max(means) // 1 + 3)
    _name(values, across, upwards)
    x = {"field": "x", "type": "quantitative", "scale": {"type": "log", "domain": across, "nice": False}, **x_axis}
    y: Spec = {"field": "mean", "type": "quantitative", "title": "mean nDCG@10 of the five tasks"}
    y["scale"] = {"domain": upwards, "nice": False}
    colour = {"field": "size", "type": "nominal", "title": "parameters", "legend": {"orient": "right"}}
    encoding = {
        "x": x,
        "y": y,
        "color": colour | {"scale": {"domain": list(SIZES), "range": "category"}},
        "shape": colour | {"scale": {"domain": list(SIZES), "range": SHAPES}},
        "tooltip": [{"field": "told", "title": "model"}],
        "description": {"field": "told"},
    }
    names = [
        {
            "transform": [{"filter": f"datum.side == '{side}'"}],
            "mark": {"type": "text", "align": align, "dx": dx, "baseline": "middle", "fontSize": 11, "style": "plain"},
            "encoding": {"x": x, "y": y, "text": {"field": "label"}},
        }
        for side, align, dx in (("right", "left", GAP), ("left", "right", -GAP))
    ]
    spec = {
        "$schema": SCHEMA,
        "data": {"values": values},
        "width": WIDTH,
        "height": HEIGHT,
        "layer": [
            {"mark": {"type": "point", "filled": True, "size": 75, "opacity": 0.9}, "encoding": encoding},
            *names,
        ],
    }
    about = "; ".join(value["told"] for value in values if value["side"])
    return Chart(name, title, note, f"{title}: {len(values)} models as points. {about}.", spec)


def _name(values: list[Spec], across: tuple[float, float], upwards: tuple[float, float]) -> None:
    """Decide which points bear their names and on which side: ours first, then the best, none over a point or another name."""

    def place(value: Spec) -> tuple[float, float]:
        x = WIDTH * math.log(value["x"] / across[0]) / math.log(across[1] / across[0])
        return x, HEIGHT * (value["mean"] - upwards[0]) / (upwards[1] - upwards[0])

    points = [place(value) for value in values]
    taken: list[tuple[float, float, float]] = [(x - GAP, x + GAP, y) for x, y in points]  # from x to x, at y
    for value in sorted(values, key=lambda value: (not value["ours"], not value["anchor"], -value["mean"])):
        x, y = place(value)
        long = LETTER * len(value["label"])
        for side, left, right in (("right", x + GAP, x + GAP + long), ("left", x - GAP - long, x - GAP)):
            free = all(right <= a or left >= b or abs(y - at) >= LINE for a, b, at in taken)
            if free and left > 0 and right < WIDTH:
                value["side"] = side
                taken.append((left, right, y))
                break


def _point(row: Row, names: dict[str, str], x: float, what: str) -> Spec:
    told: Spec = {"model": row.model, "size": row.size, "mean": _points(row.mean), "x": x, "ours": row.ours}
    told |= {"anchor": row.anchor, "label": names[row.model], "side": ""}
    return told | {"told": f"{row.model}: {points(row.mean)} at {what}"}


def _points(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 2)


def _zero_shot(row: Row) -> str:
    trained = row.facts.trained_on
    return "not declared" if trained is None else "yes" if set(trained) & HEADLINE.keys() else "no"


def _names(rows: list[Row]) -> dict[str, str]:
    """What models are called in a picture: without their organisation, where no other is called so; ours with a star."""
    counts = Counter(row.model.rpartition("/")[2] for row in rows)
    short_names = {row.model: row.model.rpartition("/")[2] for row in rows}
    return {
        row.model: (short_names[row.model] if counts[short_names[row.model]] == 1 else row.model) + " ★" * row.ours
        for row in rows
    }


def _told(row: Row) -> str:
    from_base = f", {gained(row.difference)} from {row.base}" if row.difference is not None else ""
    return f"{row.model}: {points(row.mean)}{from_base}"
