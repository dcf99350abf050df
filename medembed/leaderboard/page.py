"""The board as a static web page: a folder that opens from a disk, and that the Hub serves as a Space as it stands.

Every table is HTML that needs no script. DataTables (carried by the package itables) makes them sortable and filterable, Vega (carried
by vl-convert) draws the charts; both are copied into the folder. Nothing is loaded from anywhere else, and the page's policy forbids it.
"""

import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from medembed.errors import InputError, RunError
from medembed.leaderboard import charts, markdown
from medembed.leaderboard.board import SIZES, UNKNOWN_SIZE, Board, Row
from medembed.leaderboard.results import Found
from medembed.leaderboard.tasks import BENCHMARK, BENCHMARK_NAME, HEADLINE, TASKS, Part, Task

TITLE = "Medical embedding leaderboard"
OWN_FILES = ("page.css", "page.js")
MARK = "sdk: static"  # in the README of a page: what may be replaced


def write(board: Board, found: list[charts.Chart], ours: Found, folder: Path) -> None:
    """Write the page into `folder`, in place of the page that stands there.

    Raises:
        InputError: other things stand there.
    """
    if folder.exists() and not is_page(folder):
        raise InputError.of("holds something else than a page", str(folder), "Choose another folder by `--to`.")
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    for path, content in {**pages(board, found), **_assets()}.items():
        target = unfinished / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")
    for file, result in ours.files.items():
        target = unfinished / "results" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(result, target)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def is_page(folder: Path) -> bool:
    """Whether a folder is empty, or holds a page."""
    try:
        return MARK in (folder / "README.md").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return folder.is_dir() and not any(folder.iterdir())


def pages(board: Board, found: list[charts.Chart]) -> dict[str, str]:
    """The pages, without what they load: path → text. Every text is escaped, whoever wrote it."""
    environment = Environment(
        loader=PackageLoader("medembed.leaderboard"),
        autoescape=True,  # names of models are anybody's
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "points": markdown.points,
        "gained": markdown.gained,
        "parameters": markdown.parameters,
        "share": markdown.share,
        "licence": markdown.licence,
    }
    shared: dict[str, Any] = {
        "title": TITLE,
        "board": board,
        "tasks": TASKS,
        "headline": HEADLINE,
        "benchmark": BENCHMARK_NAME,
        "sizes": [*SIZES, UNKNOWN_SIZE],
        "short": markdown.SHORT,
    }
    drawn = [
        {"name": chart.name, **{theme: charts.themed(chart.spec, theme) for theme in charts.THEMES}} for chart in found
    ]
    medical = {row.model: _known(row) for row in board.rows}
    index = environment.get_template("index.html.jinja")
    task_page = environment.get_template("task.html.jinja")
    pages = {
        "README.md": environment.get_template("space.md.jinja").render(shared, sources=markdown.sources(board)),
        "index.html": index.render(shared, root="", charts=found, drawn=drawn, known=medical),
    }
    for task in TASKS.values():
        rows = sorted((row for row in board.rows if task.name in row.scores), key=lambda row: _of_task(row, task.name))
        columns = _columns(task)
        pages[f"tasks/{task.name}.html"] = task_page.render(
            shared, root="../", task=task, rows=rows, columns=columns, mean=_mean_of
        )
    return pages


def _assets() -> dict[str, str]:
    """The page's own files, and the libraries as they come in their packages, with their licences in them."""
    import vl_convert

    own = Path(__file__).parent / "templates"
    spec = find_spec("itables")
    assert spec is not None and spec.origin is not None
    html = Path(spec.origin).parent / "html"
    files = {name: (own / name).read_text(encoding="utf-8") for name in OWN_FILES}
    files["datatables.css"] = (html / "dt_bundle.css").read_text(encoding="utf-8")
    files["datatables.js"] = classic((html / "dt_bundle.js").read_text(encoding="utf-8"))
    files["vega.js"] = vl_convert.javascript_bundle()  # type: ignore[call-arg]
    return {f"assets/{name}": text for name, text in files.items()}


def classic(module: str) -> str:
    """A JavaScript module as a script that sets `jQuery`: a browser loads no modules from `file://`.

    Raises:
        RunError: the module does not export it as we know it.
    """
    exports = re.findall(r"export\s*\{([^}]*)\}\s*;", module)
    name = re.search(r"([\w$]+) as jQuery\b", exports[0]) if len(exports) == 1 else None
    if name is None:
        raise RunError.of("the package itables carries another bundle", mend="Install the version of constraints.txt.")
    return "(() => {\n" + re.sub(r"export\s*\{[^}]*\}\s*;", f"window.jQuery = {name[1]};", module) + "\n})();\n"


def _known(row: Row) -> dict[str, str]:
    """In place of means that are not known: how many of their scores are."""
    of_benchmark = [row.scores[task].value if task in row.scores else None for task in BENCHMARK]
    return {"headline": markdown.known(row.headline.values()), "benchmark": markdown.known(of_benchmark)}


def _of_task(row: Row, task: str) -> tuple[bool, float, str]:
    value = row.scores[task].value
    return value is None, -(value or 0), row.model


def _columns(task: Task) -> list[tuple[str, list[Part]]]:
    """The columns of a task's page beside its score: one a subset, where it has several, with the parts that it is the mean of."""
    if len(task.subsets) == 1:
        return []
    return [(subset, [(split, subset) for split in task.splits]) for subset in task.subsets]


def _mean_of(row: Row, task: str, parts: list[Part]) -> float | None:
    found = [row.scores[task].parts.get(part) for part in parts]
    known = [value for value in found if value is not None]
    return sum(known) / len(known) if len(known) == len(found) else None
