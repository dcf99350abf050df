"""`medembed`: one command a stage, and `run` for all of them. Thin: reads recipes, calls stages, tells what was done.

Standard output carries the report, standard error progress and faults. Exit codes: 0 done, 2 bad input, 1 the work could not be
finished (the same command goes on), 130 stopped by Ctrl-C, 143 training stopped by SIGTERM (the same command goes on).
"""

import json
import logging
import os
import re
import sys
import traceback
import warnings
from pathlib import Path
from typing import Annotated

import typer

from medembed import __version__, report, resources, stages
from medembed.commit import commit
from medembed.errors import InputError, MedEmbedError, Stopped
from medembed.jobs import Executor, Job, chain, check_stage, echo, generate_in_shards, perform
from medembed.leaderboard.cli import app as leaderboard
from medembed.recipe import DatasetRecipe
from medembed.recipe_file import load

app = typer.Typer(
    help="""Build, prove and publish medical embedding models. A recipe is one YAML file; it makes one dataset or one model.

    \b
    medembed recipes list                                what comes along
    medembed run recipes/quickstart/model.yaml           all stages that are not done yet
    medembed train MODEL.yaml train.learning_rate=1e-5   one stage, with a value overridden
    """,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # those show local variables, and so notes
    rich_markup_mode=None,
    add_completion=False,
)
recipes_app = typer.Typer(
    help="The recipes that come along: list them, copy one.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(recipes_app, name="recipes")
app.add_typer(leaderboard, name="leaderboard")

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="The YAML file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Values of the recipe to override.", show_default=False),
]
RunDir = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Else runs/<name of the recipe>. A model's dataset has its own beside it."),
]
Endpoint = Annotated[
    list[str] | None, typer.Option(metavar="URL", help="Ask this server, not the recipe's. May be repeated.")
]
ConfigFile = Annotated[Path | None, typer.Option(metavar="YAML", help="A launch config of Accelerate.")]


@app.callback(invoke_without_command=True)
def _start(
    version: Annotated[bool, typer.Option("--version", help="Print version and commit, and leave.")] = False,
) -> None:
    if version:
        made_of = commit()
        typer.echo(f"medembed {__version__}" + (f" ({made_of})" if made_of else ""))
        raise typer.Exit


@app.command()
def validate(recipe: RecipePath, overrides: Overrides = None) -> None:
    """Check a recipe, and the dataset's recipe that it names: every fault at once, with its line. Starts nothing."""
    for job in chain(recipe, overrides):
        typer.echo(f"{job.path}: {job.recipe.kind} {job.recipe.name}: {', '.join(stages.stages_of(job.recipe))}")


@app.command()
def generate(
    recipe: RecipePath,
    overrides: Overrides = None,
    endpoint: Endpoint = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="Only the first N notes.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count requests, tokens, cost and hours; ask and write nothing.")
    ] = False,
    tokens_per_second: Annotated[
        float | None, typer.Option(metavar="N", min=0, help="Of replies, for the hours of the dry run.")
    ] = None,
    executor: Annotated[
        Executor | None,
        typer.Option(help="Ask by several tasks at once; Slurm and Ray as `generate` of the recipe says."),
    ] = None,
    tasks: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Shards of the notes, a task for each. [default: 4]")
    ] = None,
    run_dir: RunDir = None,
) -> None:
    """Notes → pairs, by an LLM behind a text-generation-inference endpoint."""
    limited = [] if limit is None else [f"generate.limit={limit}"]
    job = Job.of(recipe, [*(overrides or []), *_asking(endpoint), *limited], run_dir)
    check_stage("generate", job)
    assert isinstance(job.recipe, DatasetRecipe)
    if tasks and not executor:
        raise InputError.of("does nothing alone", "--tasks", "Say by whom they are run: `--executor local`.")
    if tokens_per_second and not dry_run:
        raise InputError.of("does nothing alone", "--tokens-per-second", "It belongs to `--dry-run`.")
    if dry_run:
        from medembed.generate.estimate import estimate

        typer.echo(estimate(job.recipe, job.run, tokens_per_second))
    elif executor is None:
        perform("generate", job)
    else:
        generate_in_shards(job, executor, tasks or 4)


@app.command()
def curate(recipe: RecipePath, overrides: Overrides = None, run_dir: RunDir = None) -> None:
    """Pairs → clean pairs: filters, rejects with reasons, split by note."""
    perform("curate", Job.of(recipe, overrides, run_dir))


@app.command()
def mine(recipe: RecipePath, overrides: Overrides = None, run_dir: RunDir = None) -> None:
    """Pairs → triplets with hard negatives."""
    perform("mine", Job.of(recipe, overrides, run_dir))


@app.command()
def train(
    recipe: RecipePath, overrides: Overrides = None, run_dir: RunDir = None, config_file: ConfigFile = None
) -> None:
    """Triplets → model: measures the base, then trains. The same as `accelerate launch -m medembed.train RECIPE`."""
    perform("train", Job.of(recipe, overrides, run_dir), config_file)


@app.command()
def evaluate(
    recipe: Annotated[
        Path | None, typer.Argument(metavar="[RECIPE]", help="The YAML file.", show_default=False)
    ] = None,
    overrides: Overrides = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Instead of a recipe: `bm25`, a folder, org/name[@revision] on the Hub, or an endpoint, URL[#MODEL].",
        ),
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[,NAME...]", help="Of `--model`: mteb's tasks, or BEIR folders. May be repeated."),
    ] = None,
    benchmark: Annotated[
        str | None, typer.Option(metavar="NAME", help='Of `--model`: all tasks of one, such as "MTEB(Medical, v1)".')
    ] = None,
    languages: Annotated[
        str | None,
        typer.Option(
            metavar="CODES", help="Of `--tasks`: ISO 639-3, by commas; `all` for all that a task has. [default: eng]"
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Of `--model`: texts at once. [default: 32]")
    ] = None,
    allow_remote_code: Annotated[
        bool, typer.Option("--allow-remote-code", help="Of `--model`: run code that comes with it.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Of `--model`: measure again, by the embeddings that are kept.")
    ] = False,
    costs: Annotated[
        bool, typer.Option("--costs", help="Of `--model`: its size and speed too, and its quality when stored smaller.")
    ] = False,
    dimensions: Annotated[
        str | None, typer.Option(metavar="N[,N...]", help="Of `--costs`: also cut to so many dimensions.")
    ] = None,
    run_dir: RunDir = None,
) -> None:
    """Model → results of base and tuned on mteb tasks, the difference and the verdict; or of any one model by `--model`.

    \b
    medembed evaluate recipes/quickstart/model.yaml
    medembed evaluate --model BAAI/bge-small-en-v1.5 --tasks ArguAna,NFCorpus
    medembed evaluate --model bm25 --tasks ./my-beir-folder
    medembed evaluate --model ./my-model --tasks ./my-beir-folder --costs --dimensions 256,64
    medembed evaluate --model org/MedEmbed-small-v1@v1.0.0 --benchmark "MTEB(Medical, v1)"

    Of `--model`, mteb's results files, the scores of every query, and what else is told are in runs/evaluate, or `--run-dir`.
    """
    named = [name.strip() for each in tasks or [] for name in each.split(",") if name.strip()]
    if model is None:
        if recipe is None or named or benchmark:
            raise InputError.of("takes a recipe, or `--model` with `--tasks` or `--benchmark`", "evaluate")
        given = {"languages": languages, "batch-size": batch_size, "allow-remote-code": allow_remote_code}
        given |= {"overwrite": overwrite, "costs": costs, "dimensions": dimensions}
        if idle := [f"--{name}" for name, value in given.items() if value]:
            mend = "They belong to `--model`; with a recipe, override its keys: `evaluate.batch_size=8`."
            raise InputError.of("does nothing with a recipe", ", ".join(idle), mend)
        echo(report.results(perform("evaluate", Job.of(recipe, overrides, run_dir))))
        return
    if recipe is not None or bool(named) == bool(benchmark):
        raise InputError.of("takes `--tasks` or `--benchmark`, one of the two, and no recipe", "--model")
    if languages and benchmark:
        raise InputError.of("does nothing with `--benchmark`, which says itself what it asks", "--languages")
    if dimensions and not costs:
        raise InputError.of("does nothing alone", "--dimensions", "It belongs to `--costs`.")
    if dimensions and not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", dimensions):
        raise InputError.of("are numbers, such as 256,64", "--dimensions")
    from medembed.evaluate.alone import measure_alone, summary, tasks_of

    found = measure_alone(
        model,
        tasks_of(benchmark) if benchmark else named,
        run_dir or Path("runs") / "evaluate",
        languages=[] if benchmark or languages == "all" else (languages or "eng").split(","),
        batch_size=batch_size or 32,
        allow_remote_code=allow_remote_code,
        again=overwrite,
        costs=costs,
        cut_to=[int(number) for number in dimensions.split(",")] if dimensions else [],
    )
    resolved = found.measured.model
    echo(report.scores(f"{resolved.name}@{resolved.revision}", summary(found)))
    if found.costs:
        echo(report.costs(found.costs.facts, found.costs.speed))


@app.command()
def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="A B [C]...", help="Folders, or names of models that were measured.", show_default=False
        ),
    ],
    within: Annotated[
        list[Path] | None,
        typer.Option("--in", metavar="DIR", help="Look for names there, too. May be repeated. [default: runs/*]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, not Markdown.")] = False,
) -> None:
    """Measured models → tables: differences from A and how sure they are, queries won and lost, who wins how often.

    \b
    medembed compare runs/one runs/two                 the trained models of two run folders
    medembed compare all-MiniLM-L6-v2 runs/one         a model by its name, measured in runs/one or in any of runs/*
    medembed compare bge-small-en-v1.5@5c38ec runs/one one of several revisions

    A folder is a run folder, or one that `evaluate` keeps scores of one model in. Encodes nothing; queries are told by their ids alone.
    """
    from medembed.evaluate.compare import compare_named, markdown

    if len(models) < 2:
        raise InputError.of("takes two models or more", "compare")
    findings = compare_named(models, within or sorted(Path("runs").glob("*/")))
    typer.echo(json.dumps(findings.as_json(), indent=2, ensure_ascii=False) if as_json else markdown(findings))


@app.command()
def export(recipe: RecipePath, overrides: Overrides = None, run_dir: RunDir = None) -> None:
    """Model → ONNX and OpenVINO, fp32 and int8, each held against the model: cosine and nDCG@10.

    \b
    medembed export MODEL.yaml                                 as its section `export` says
    medembed export MODEL.yaml 'export=[onnx, onnx-int8]'      a recipe without one

    What loses more than the recipe allows is kept in the run folder and not published.
    """
    perform("export", Job.of(recipe, overrides, run_dir))


@app.command()
def publish(
    recipe: RecipePath,
    overrides: Overrides = None,
    to: Annotated[
        str | None, typer.Option(metavar="ORG/NAME|FOLDER", help="There instead; a folder begins with ./ or /.")
    ] = None,
    tag: Annotated[
        str | None, typer.Option(metavar="TAG", help="Of the release on the Hub, such as v1.0.0; never moved.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="To a private repository alone.")] = False,
    allow_regression: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="Publish a model that is worse than its base; its card tells why."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be written where; write nothing.")
    ] = False,
    candidate: Annotated[
        bool, typer.Option("--candidate", help="Leave it on the Hub as a candidate, for `medembed promote`.")
    ] = False,
    run_dir: RunDir = None,
) -> None:
    """Artifact and card → a Hub repository (HF_TOKEN, HF_ENDPOINT) or a local folder.

    On the Hub it first stands on a branch of its own, is downloaded again, compared and loaded; then main gets it by one commit.
    """
    said = {"tag": tag, "private": private or None, "allow_regression": allow_regression}
    options = [f"publish.{key}={json.dumps(value)}" for key, value in said.items() if value is not None]
    job = Job.of(recipe, [*(overrides or []), *_going_to(to), *options], run_dir)
    if not (dry_run or candidate):
        perform("publish", job)
        return
    from medembed.publish import plan, propose

    if dry_run:
        for path, size, action in plan(job.recipe, job.run):
            typer.echo(f"{action:10s} {size:>13,d}  {path}")
    else:
        echo(
            f"candidate  {job.recipe.publish.repo}; in the recipe, for the release: `candidate: {propose(job.recipe, job.run)}`"
        )


@app.command()
def promote(
    recipes: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RECIPE]...",
            help="Recipes that name a candidate; else all of those that come along.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge and try it; change nothing.")] = False,
) -> None:
    """Candidate → release: judged and tried where it stands on the Hub, then main by one commit, and the tag.

    Needs no run folder. A recipe names its candidate, as `publish --candidate` tells it, and the tag: `publish: {candidate: …, tag: …}`.
    """
    from medembed.publish.promotion import promote

    known = [load(path) for path in recipes or resources.recipes().values()]
    named = known if recipes else [recipe for recipe in known if recipe.publish.candidate]
    for recipe in named:
        told, where = promote(recipe, only_try=dry_run), f"{recipe.publish.repo} {recipe.publish.tag}"
        for path, action in told.changes.items():
            typer.echo(f"{action:10s} {path}")
        echo(
            f"promote    {where}: {told.proof}; {f'released as {told.commit}' if told.commit else 'nothing was changed'}"
        )
    if not named:
        typer.echo("promote    no recipe names a candidate")


@app.command()
def run(
    recipe: RecipePath,
    overrides: Overrides = None,
    endpoint: Endpoint = None,
    run_dir: RunDir = None,
    config_file: ConfigFile = None,
) -> None:
    """All stages of a recipe that are not done yet; for a model, those of its dataset's recipe first.

    Overrides that begin with `dataset.` go to that dataset's recipe: `dataset.mine.negatives=2`.
    """
    jobs = chain(recipe, overrides, _asking(endpoint), run_dir)
    stages.check([job.recipe for job in jobs])
    for job in jobs:
        for stage in stages.stages_of(job.recipe):
            perform(stage, job, config_file)
    echo(report.ending([job.run for job in jobs]))


@recipes_app.command("list")
def list_recipes() -> None:
    """The name and first line of each."""
    for name, path in resources.recipes().items():
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        typer.echo(f"{name:36s}{first.removeprefix('#').strip()}")


@recipes_app.command("copy")
def copy_recipe(
    name: Annotated[str, typer.Argument(help="As `recipes list` shows it, or a folder: quickstart.")],
    to: Annotated[Path, typer.Argument(help="A folder of yours.")] = Path(),
) -> None:
    """Copy a recipe, or a folder of them with its data, to make it yours."""
    typer.echo(str(resources.copy_recipe(name, to)))


def _asking(endpoints: list[str] | None) -> list[str]:
    return [f"generate.endpoints={json.dumps(endpoints)}"] if endpoints else []


def _going_to(place: str | None) -> list[str]:
    if place is None:
        return []
    is_folder = place.startswith((".", "/", "~"))
    repo, folder = ("null", place) if is_folder else (place, "null")
    return [f"publish.repo={repo}", f"publish.folder={folder}"]


def main() -> None:
    """The command: `app`, with faults told in plain words. A bug is told by its place alone: its message might quote a note."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("medembed").setLevel(logging.INFO)
    logging.getLogger("huggingface_hub").propagate = False  # it has a handler of its own: else all is said twice
    warnings.simplefilter("ignore", FutureWarning)  # what libraries say to each other
    try:
        if app(standalone_mode=False) == 130:  # typer's word for Ctrl-C
            raise KeyboardInterrupt
    except MedEmbedError as error:
        for fault in error.faults:
            typer.secho(f"error: {fault}", err=True)
        sys.exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        typer.echo("stopped; the same command goes on from here", err=True)
        sys.exit(130)
    except Stopped as stopped:
        typer.echo(str(stopped), err=True)
        sys.exit(stopped.exit_code)
    except Exception as error:
        if hasattr(error, "format_message"):  # click's own: a wrong option
            typer.echo(f"error: {error.format_message()}", err=True)
            sys.exit(2)
        if os.environ.get("MEDEMBED_DEBUG"):
            raise
        typer.echo("".join(traceback.format_tb(error.__traceback__)), err=True, nl=False)
        typer.echo(
            f"{type(error).__name__}: a bug of medembed, or of a library. MEDEMBED_DEBUG=1 shows the message too.",
            err=True,
        )
        sys.exit(1)
