"""`medembed leaderboard`: build it, push its page, renew the figures that come along, prepare a submission to mteb. Thin, as
`medembed/cli.py` is."""

from pathlib import Path
from typing import Annotated

import typer

from medembed.errors import InputError

app = typer.Typer(
    help="The medical leaderboard: tables, pictures and a web page from result files and published figures.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Snapshot = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="Published figures: another snapshot than the one that comes along, or a clone of mteb's results repository, "
        "such as `remote` in mteb's cache.",
    ),
]


@app.command()
def build(
    results: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RESULTS]...",
            help="Run folders, and others with results/<org>__<model>/<revision>/<Task>.json, that you have measured: they are "
            "told as yours.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[Path, typer.Option(metavar="DIR", help="Where README.md, pictures and space are written.")] = Path(
        "leaderboard"
    ),
    readme: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Also a short table between the markers of this file.")
    ] = None,
    speeds: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Embeddings a second by model, measured on one machine, as JSON."),
    ] = None,
    snapshot: Snapshot = None,
) -> None:
    """Tables, pictures and the page from published figures and from RESULTS of yours. Needs no network."""
    from medembed.leaderboard import PAGE, build, markdown
    from medembed.leaderboard.snapshot import PUBLISHED

    board = build(results or [], to, readme or [], snapshot or PUBLISHED, speeds)
    told = ", ".join(f"{count:,} {what}" for what, count in board.counts.items())
    typer.echo(f"leaderboard  {len(board.rows)} models, {len(markdown.full(board))} in the table; {told}")
    typer.echo(f"page         {to / PAGE / 'index.html'}; as a Space: medembed leaderboard push --to ORG/NAME")


@app.command()
def push(
    to: Annotated[str, typer.Option(metavar="ORG/NAME", help="The Space.", show_default=False)],
    page: Annotated[Path, typer.Option(metavar="DIR", help="The page that `build` has written.")] = Path(
        "leaderboard/space"
    ),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change; write nothing.")] = False,
) -> None:
    """The built page → a static Space on the Hub (HF_TOKEN, HF_ENDPOINT): whole or not at all."""
    from medembed.leaderboard.space import plan, push_page
    from medembed.recipe.common import hub_id

    try:
        hub_id(to)
    except ValueError as error:
        raise InputError.of(str(error), f"--to {to}") from error
    if dry_run:
        for path, action in plan(page, to).items():
            typer.echo(f"{action:10s} {path}")
    else:
        typer.echo(f"page         {to}@{push_page(page, to)}")


@app.command()
def renew(
    checkout: Annotated[Path, typer.Argument(help="A clone of https://github.com/embeddings-benchmark/results.")],
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="Else in place of the one that comes along.")] = None,
) -> None:
    """Read the public results anew; facts of models are those of the mteb that is installed."""
    from medembed.leaderboard.snapshot import PUBLISHED, renew

    snapshot, rejects = renew(checkout, to or PUBLISHED)
    typer.echo(f"{len(snapshot.results):,} results of {len(snapshot.facts)} models, {snapshot.sources[0].date}")
    for reason, count in rejects.most_common():
        typer.echo(f"  {count:,}: {reason}")


@app.command()
def submit(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="Of a model that has been published to the Hub.")],
    results: Annotated[
        Path | None, typer.Option(metavar="DIR", help="mteb's results of it; else those in its run folder.")
    ] = None,
    revision: Annotated[str | None, typer.Option(metavar="COMMIT", help="Else the one that was published.")] = None,
    to: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the files are written; else submission/<name of the recipe>."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write and validate; do not tell where to send.")] = False,
    run_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Else runs/<name of the recipe>.")] = None,
) -> None:
    """Write the files of the two pull requests that put a model on mteb's leaderboard, and let mteb itself read them."""
    from medembed.leaderboard.submit import submit, where
    from medembed.recipe_file import load
    from medembed.run import Run

    loaded = load(recipe)
    to = to or Path("submission") / loaded.name
    for path in (files := submit(loaded, Run(loaded, run_dir), results, revision, to)):
        typer.echo(path)
    if not dry_run:
        typer.echo(where(files, to))
