"""What a run tells: records in, lines of text out. One line a stage: what went in, what came out, what was lost and why."""

from typing import Any

from medembed.run import Record, Run

METRICS = {"ndcg_at_10": "nDCG@10", "mrr_at_10": "MRR@10", "recall_at_10": "Recall@10"}
VERDICTS = {"WIN": "beats", "MARGINAL": "cannot be told from", "REGRESSION": "is worse than"}
_ZERO_SHOT = {"zero-shot": "yes", "trained on": "no", "not known": "not known"}


def line(record: Record, *, skipped: bool = False) -> str:
    """One line on what a stage did."""
    what = _SAID[record.stage](record)
    took = _took(record) or record.rejects
    lost = ", ".join(f"{reason} {rows:,}" for reason, rows in took.items())
    rejects = f"{sum(took.values()):,} rejected: {lost}" if lost else ""
    note = "(done before: same recipe, same inputs)" if skipped else ""
    return f"{record.stage:10s} {what:46s} {rejects} {note}".rstrip()


def results(record: Record) -> str:
    """The table of base against tuned for each task, and the verdict."""
    facts = record.facts
    lines = []
    for task, scores in facts["tasks"].items():
        lines.append(f"\n{task}: {scores['queries']} queries, {scores['passages']} passages")
        lines.append(f"{'':12s}{'base':>7s}{'tuned':>8s}   difference [95 %]")
        lines += [f"{name:12s}{_compared(scores[metric])}" for metric, name in METRICS.items()]
    if len(facts["tasks"]) > 1:
        lines.append(f"\nmean over tasks\n{'nDCG@10':12s}{_compared(facts['average'])}")
    if zero_shot := facts.get("zero_shot_average"):
        lines.append(f"{'zero-shot':12s}{_compared(zero_shot)}")
    if others := facts.get("compared"):
        lines.append(f"\nagainst others, mean nDCG@10\n{'':12s}{'other':>7s}{'tuned':>8s}   difference [95 %]")
        lines += [f"{'':12s}{_compared(other['average'])}   {name}" for name, other in others.items()]
    says = VERDICTS[facts["verdict"]]
    lines.append(f"\n{facts['verdict']:10s} {facts['tuned']['name'].split('/')[-1]} {says} {facts['base']['name']}")
    return "\n".join(lines)


def scores(model: str, tasks: dict[str, dict[str, Any]]) -> str:
    """What one model scores on each task (in points, hundredths), and its means: `tasks` as `evaluate.alone.summary` gives them."""
    wide = max(map(len, [*tasks, "mean of zero-shot tasks"]))
    lines = [model, f"{'':{wide}s}{'main':>8s}" + "".join(f"{name:>11s}" for name in METRICS.values())]
    for task, told in tasks.items():
        ranked = "".join(f"{100 * told[metric]:11.2f}" for metric in METRICS if metric in told)
        size = f"{told['queries']:,} queries, {told['passages']:,} passages, " if ranked else ""
        lines.append(
            f"{task:{wide}s}{100 * told['main']:8.2f}{ranked}   {size}zero-shot: {_ZERO_SHOT[told['zero_shot']]}"
        )
    main = {task: 100 * told["main"] for task, told in tasks.items()}
    zero_shot = [main[task] for task in tasks if tasks[task]["zero_shot"] == "zero-shot"]
    if len(tasks) > 1:
        lines.append(f"{'mean over tasks':{wide}s}{sum(main.values()) / len(main):8.2f}")
        lines.append(
            f"{'mean of zero-shot tasks':{wide}s}"
            + (f"{sum(zero_shot) / len(zero_shot):8.2f}" if zero_shot else "    none")
        )
    return "\n".join(lines)


def costs(facts: dict[str, Any], speed: dict[str, Any]) -> str:
    """What one model costs: `evaluate.costs.Costs`, as far as it could be measured."""
    lines = []
    if parameters := facts.get("parameters"):
        lines.append(
            f"{parameters:,} parameters in {facts['weights_bytes'] / 2**20:,.0f} MiB, {facts['dimensions']} dimensions, {facts['vectors']}"
        )
    if speed:
        rates = ", ".join(
            f"{rate:,} embeddings/s in batches of {size}" for size, rate in speed["embeddings_per_second"].items()
        )
        at_most = f", at most {speed['peak_gpu_bytes'] / 2**20:,.0f} MiB there" if "peak_gpu_bytes" in speed else ""
        lines.append(f"{rates} ({speed['device']}{at_most})")
    lines += [
        f"index of {task}: {told['bytes'] / 2**20:,.1f} MiB in float32" for task, told in facts.get("index", {}).items()
    ]
    lines += [
        f"{it['precision']:20s}{it['bytes']:6d} bytes a passage   nDCG@10 {100 * it['average']:.2f}"
        for it in facts.get("compressed", [])
    ]
    return "\n" + "\n".join(lines or ["costs: not known of such a model"])


def ending(runs: list[Run]) -> str:
    """What `medembed run` ends with: what the published model answers, the results, and where everything is."""
    records = [(run, record) for run in runs for stage in ("evaluate", "publish") if (record := run.record(stage))]
    lines = []
    for _, record in records:
        if asked := record.facts.get("asked"):
            lines += ["", f"asked      {asked['query']}"]
            lines += [
                f"  {hit['score']:.3f}  {hit['title']}: {' '.join(hit['text'].split())}" for hit in asked["passages"]
            ]
    lines += [results(record) for _, record in records if record.stage == "evaluate"]
    lines += [
        f"published  {record.facts['where']} ({run.recipe.kind})"
        for run, record in records
        if record.stage == "publish"
    ]
    lines += [f"run folder {run.folder} (rejects, records, journal)" for run in runs]
    return "\n".join(lines)


def _compared(score: dict[str, float]) -> str:
    """Base, tuned and difference in points (hundredths), with the interval."""
    base, tuned, difference, low, high = (100 * score[key] for key in ("base", "tuned", "difference", "low", "high"))
    return f"{base:7.1f}{tuned:8.1f}   {difference:+.1f} [{low:+.1f}, {high:+.1f}]"


def _took(record: Record) -> dict[str, int]:
    """How many pairs each filter of curate took, and how many could not be read; what else was rejected is in the record."""
    if record.stage != "curate":
        return {}
    took = {"unreadable": record.counts["pairs in"] - record.counts["pairs"]}
    for each in record.facts["filters"]:
        name = each["filter"].replace("_", " ")
        took[name] = took.get(name, 0) + each["pairs removed"]
        took["unreadable"] -= each["pairs removed"]
    return {name: rows for name, rows in took.items() if rows}


def _train(record: Record) -> str:
    facts = record.facts
    loss, minutes = facts["loss"], record.measured.get("seconds", 0) / 60
    return f"{facts['base']['name']}: {facts['steps']} steps, {minutes:.0f} min, loss {loss['first']:.2f} → {loss['last']:.2f}"


def _export(record: Record) -> str:
    """The least cosine of each precision, over its files."""
    files = record.facts["files"].values()
    means: dict[str, float] = {}
    for file in files:
        means[file["precision"]] = min(means.get(file["precision"], 1.0), file["cosine"]["mean"])
    cosines = ", ".join(f"{precision} {mean:.4f}" for precision, mean in means.items())
    return f"{len(files)} files, cosine {cosines}"


_SAID: dict[str, Any] = {
    "generate": lambda record: f"{record.counts['notes']:,} notes → {record.counts['pairs']:,} pairs",
    "curate": lambda record: f"{record.counts['pairs in']:,} → {record.counts['pairs']:,} pairs",
    "mine": lambda r: f"{r.counts['pairs in']:,} pairs → {r.counts['triplets']:,} triplets × {r.facts['negatives']}",
    "train": _train,
    "evaluate": lambda record: f"{record.counts['queries']:,} queries, {record.counts['passages']:,} passages",
    "export": _export,
    "publish": lambda record: str(record.facts["where"]),
}
