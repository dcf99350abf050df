"""Training, ours against our peers': the same model, pairs, batch, length and precision, in one run, each in a process of its own.

    python benchmarks/train.py                                   # all of it, as in README.md
    python benchmarks/train.py --parts lengths --peers --batch 32 --steps 2 --max-length 64      # smaller
    python benchmarks/train.py --parts gpu                       # on a GPU: how much of its rate of multiplying is used

Lengths: `fit` of this project, a plain script with sentence-transformers' trainer and its cached loss, FlagEmbedding's trainer (in an
environment that is made on first use), on texts of uneven and of even lengths. Memory: a large batch by GradCache against a small one
without. GPU: needs torch, transformers, sentence-transformers and this checkout, and no network.
"""

import argparse
import importlib.util
import json
import os
import random
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
WARM_UP = 1  # steps before the clock starts
UNCACHED = 64  # the batch that goes through the model at once
SIZES = {
    "tiny": (2, 64, 2),
    "mini": (6, 384, 12),
    "base": (12, 768, 12),
    "large": (24, 1024, 16),
}  # layers, dimensions, heads
GPU_BATCHES = {"tiny": 64, "mini": 2048, "base": 1024, "large": 512}
VOCABULARY = 30_000
QUERY, PASSAGE = (
    (0.05, 0.5),
    (0.35, 0.7),
)  # median, by the greatest length, and sigma of the log-normal numbers of tokens


@dataclass
class Told:
    """What one contestant needed for its measured steps."""

    wall: float  # seconds
    cpu: float  # seconds of all threads: what a busy machine does not change much
    peak: float  # MiB, resident; of the whole process


def main() -> None:
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.child:
        (options.work / "told.json").write_text(json.dumps(CHILDREN[options.child](options)))
    else:
        for part in options.parts:
            PARTS[part](options)


# ---- lengths ---------------------------------------------------------------------------------------------------------


def lengths(options: argparse.Namespace) -> None:
    """Pairs a second on texts of uneven and of even lengths."""
    print(f"\nbatch {options.batch}, {options.max_length} tokens at most, {options.steps} steps, {_threads()}\n")
    print(
        "| lengths | | pairs/s | of plain | CPU s / 1,000 pairs | of plain | peak MiB |\n|---|---|---|---|---|---|---|"
    )
    for kind in ("uneven", "even"):
        options.kind = kind
        _child("prepare", options)
        plain, ours = _child("plain", options), _child("ours", options)
        rows = {"plain sentence-transformers": plain, "medembed": ours}
        if options.peers:
            rows["FlagEmbedding"] = _flagembedding(options)
        pairs = options.batch * options.steps
        for name, told in rows.items():
            rate = f"{pairs / told.wall:.1f} | {plain.wall / told.wall:.2f} ×"
            cpu = f"{1000 * told.cpu / pairs:.1f} | {plain.cpu / told.cpu:.2f} ×"
            print(f"| {kind} | {name} | {rate} | {cpu} | {told.peak:.0f} |", flush=True)


def prepare(options: argparse.Namespace) -> None:
    """The model, and as many pairs as the steps take: as Parquet for us, as JSONL for the others."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not _model(options).exists():
        _make_model(options.work / options.size, options.size)
    pairs = list(_pairs(options.kind, (options.steps + WARM_UP + 1) * options.batch, options.max_length))
    folder = options.work / "dataset" / "pairs"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(pairs), folder / "train-00000-of-00001.parquet")
    with (options.work / "pairs.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"query": p["query"], "pos": [p["positive"]], "neg": []}) + "\n" for p in pairs)


def ours(options: argparse.Namespace) -> dict[str, float]:
    from medembed.recipe import Data, Train
    from medembed.train import checks, data
    from medembed.train.trainer import fit

    train = Train(
        batch_size=options.batch,
        mini_batch_size=options.mini_batch,
        max_length=options.max_length,
        max_steps=options.steps + WARM_UP + 1,
        save_steps=10**6,
    )
    settings = Data(dataset=str(options.work / "dataset"), config="pairs")
    rows = data.read(data.find(settings, None), settings, None, train.seed)  # type: ignore[arg-type]
    times = _clocked(options)
    fit(
        _load(options),
        rows,
        checks.batches_of(rows, train),
        train,
        options.work / "run" / "train" / "checkpoints",
        None,
    )
    return _between(times)


def plain(options: argparse.Namespace) -> dict[str, float]:
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss

    model = _load(options)
    return _by_the_library(options, model, CachedMultipleNegativesRankingLoss(model))


def uncached(options: argparse.Namespace) -> dict[str, float]:
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    model = _load(options)
    return _by_the_library(options, model, MultipleNegativesRankingLoss(model))


def _by_the_library(options: argparse.Namespace, model: Any, loss: Any) -> dict[str, float]:
    from datasets import load_dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

    files = str(options.work / "dataset" / "pairs" / "train-00000-of-00001.parquet")
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(options.work / "plain"),
        per_device_train_batch_size=options.batch,
        max_steps=options.steps + WARM_UP + 1,
        save_strategy="no",
        use_cpu=True,
    )
    dataset = load_dataset("parquet", data_files=files, split="train", cache_dir=str(options.work / "cache"))
    trainer = SentenceTransformerTrainer(model=model, args=arguments, train_dataset=dataset, loss=loss)
    times = _clocked(options)
    trainer.train()
    return _between(times)


def _flagembedding(options: argparse.Namespace) -> Told:
    python = options.environment / "bin" / "python"
    if not python.exists():
        venv.create(options.environment, with_pip=True)
        wanted = [
            "--requirement",
            HERE / "peers" / "flagembedding_train.txt",
            "--constraint",
            HERE.parent / "constraints.txt",
        ]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    script = HERE / "peers" / "flagembedding_train.py"
    sizes = [options.batch, options.max_length, WARM_UP, options.steps]
    return _measured([python, script, _model(options), options.work, *sizes], options)


def _clocked(options: argparse.Namespace) -> list[tuple[float, float]]:
    """A list that gets the times at which the first measured step begins, and at which the last one has ended."""
    from transformers import Trainer

    step, times, begun = Trainer.training_step, [], 0

    def clocked(*given: Any, **settings: Any) -> Any:
        nonlocal begun
        if begun in (WARM_UP, WARM_UP + options.steps):
            times.append((time.perf_counter(), time.process_time()))
        begun += 1
        return step(*given, **settings)

    Trainer.training_step = clocked
    return times


def _between(times: list[tuple[float, float]]) -> dict[str, float]:
    (wall, cpu), (wall_after, cpu_after) = times
    return {"wall": wall_after - wall, "cpu": cpu_after - cpu}


# ---- memory ----------------------------------------------------------------------------------------------------------


def memory(options: argparse.Namespace) -> None:
    """A batch that does not fit, by GradCache, in the memory of one that does."""
    options.kind, large = "uneven", options.large_batch
    options.batch = UNCACHED
    _child("prepare", options)
    small = _child("uncached", options)
    pairs = options.batch * options.steps
    options.batch, options.steps = large, 1
    _child("prepare", options)
    told = _child("ours", options)
    print("\n| | batch | ms a pair | of uncached | CPU ms a pair | of uncached | peak MiB | of uncached |")
    print("|---|---|---|---|---|---|---|---|")
    for name, batch, count, row in (("uncached", UNCACHED, pairs, small), ("medembed, GradCache", large, large, told)):
        wall, cpu = row.wall / count / (small.wall / pairs), row.cpu / count / (small.cpu / pairs)
        seconds = f"{1000 * row.wall / count:.1f} | {wall:.2f} × | {1000 * row.cpu / count:.1f} | {cpu:.2f} ×"
        print(f"| {name} | {batch:,} | {seconds} | {row.peak:.0f} | {row.peak / small.peak:.2f} × |", flush=True)


# ---- gpu -------------------------------------------------------------------------------------------------------------


def gpu(options: argparse.Namespace) -> None:
    """Steps of the loss alone, in bf16: pairs a second, model FLOPs by the card's rate of multiplying, and where the time goes."""
    sizes = [options.size] if options.size != "mini" or options.device == "cpu" else ["mini", "base", "large"]
    print(
        "\n| model | lengths | | batch | pairs/s | of plain | FLOPs utilisation | peak MiB |\n|---|---|---|---|---|---|---|---|"
    )
    for options.size in sizes:
        for options.kind in ("uneven", "even"):
            rows = {}
            for contestant in ("gpu-plain", "gpu-ours"):
                _child(contestant, options)
                rows[contestant] = json.loads((options.work / "told.json").read_text())
            for (contestant, row), name in zip(rows.items(), ("plain", "medembed"), strict=True):
                ratio = rows["gpu-plain"]["wall"] / row["wall"]
                rate = f"{row['pairs'] / row['wall']:.1f} | {ratio:.2f} × | {row['utilisation']:.1%}"
                print(
                    f"| {options.size} | {options.kind} | {name} | {row['batch']} | {rate} | {row['memory']:.0f} |",
                    flush=True,
                )
                print(f"{contestant}: {row['profile']}", file=sys.stderr)


def of_gpu(*, is_ours: bool) -> Any:
    def child(options: argparse.Namespace) -> dict[str, Any]:
        import torch
        from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss

        if not _model(options).exists():
            _make_model(options.work / options.size, options.size)
        batch = GPU_BATCHES[options.size]
        steps = options.steps + WARM_UP
        model = _load(options, options.device).train()
        texts = options.gpu_mini_batch
        loss = (
            _ours_without_data(model, texts, texts * options.max_length)
            if is_ours
            else CachedMultipleNegativesRankingLoss(model, mini_batch_size=texts)
        )
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, fused=options.device == "cuda")
        pairs = list(_pairs(options.kind, batch * steps, options.max_length))
        loader = torch.utils.data.DataLoader(
            [pairs[n : n + batch] for n in range(0, len(pairs), batch)],
            batch_size=None,
            collate_fn=lambda rows: [model.preprocess([row[name] for row in rows]) for name in ("query", "positive")],
            num_workers=min(8, (os.cpu_count() or 2) - 1),
        )
        rate = _multiplying(options.device)
        flops, profile = 0.0, ""
        for number, columns in enumerate(loader):
            if number == WARM_UP:
                _wait(options.device)
                clock = time.perf_counter()
            if number >= WARM_UP:
                flops += _flops(columns, *SIZES[options.size])
            _step(loss, columns, optimizer, options.device)
        _wait(options.device)
        wall = time.perf_counter() - clock
        profile = _profile(lambda: _step(loss, columns, optimizer, options.device), options.device)
        used = torch.cuda.max_memory_allocated() / 2**20 if options.device == "cuda" else 0.0
        told = {"wall": wall, "cpu": 0.0, "pairs": batch * options.steps, "batch": batch, "memory": used}
        return told | {"utilisation": flops / wall / rate, "profile": profile}

    return child


def _step(loss: Any, columns: list[dict[str, Any]], optimizer: Any, device: str) -> None:
    import torch

    given = [{k: v.to(device, non_blocking=True) if torch.is_tensor(v) else v for k, v in c.items()} for c in columns]
    forward = loss.model.forward
    loss.model.forward = lambda *args, **settings: _bf16(forward, device, *args, **settings)  # as accelerate does
    loss(given, None).backward()
    loss.model.forward = forward
    torch.nn.utils.clip_grad_norm_(loss.model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def _bf16(forward: Any, device: str, *args: Any, **settings: Any) -> Any:
    import torch

    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        return forward(*args, **settings)


def _ours_without_data(model: Any, texts: int, tokens: int) -> Any:
    """Our mini-batches under the library's loss: what `fit` trains with, from the one module that needs no other of ours."""
    import torch
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss

    spec = importlib.util.spec_from_file_location("minibatches", HERE.parent / "medembed" / "train" / "minibatches.py")
    assert spec and spec.loader
    minibatches = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(minibatches)

    class Ours(minibatches.ByLength, CachedMultipleNegativesRankingLoss):
        def embed(self, features: dict[str, Any]) -> Any:
            return self.model(features)["sentence_embedding"].float()

        def calculate_loss(self, reps: Any, labels: Any = None, *, with_backward: bool = False) -> Any:
            columns = self.in_order(reps)
            leaves = [column.detach().requires_grad_(with_backward) for column in columns]
            loss = super().calculate_loss([[leaf] for leaf in leaves], labels, with_backward=with_backward)
            torch.autograd.backward(columns, [leaf.grad for leaf in leaves])
            return loss

    return Ours(model, mini_batch_size=texts, mini_batch_num_tokens=tokens)


def _flops(columns: list[dict[str, Any]], layers: int, dimensions: int, heads: int) -> float:
    """Of a forward and a backward pass over real tokens, each once: three times two for each multiplication of the forward pass.

    A layer has 12 d² weights and, for each of a text's L tokens, 2 L d more multiplications in attention.
    """
    counts = [column["attention_mask"].sum(dim=1).double() for column in columns]
    return sum(float((6 * layers * (12 * dimensions**2 * n + 2 * n**2 * dimensions)).sum()) for n in counts)


def _multiplying(device: str) -> float:
    """FLOPs a second of the device, measured: large square matrices, in bf16 on a GPU."""
    import torch

    n = 8192 if device == "cuda" else 512
    a = torch.randn(n, n, device=device, dtype=torch.bfloat16 if device == "cuda" else torch.float32)
    best = float("inf")
    for _ in range(10):
        _wait(device)
        clock = time.perf_counter()
        a @ a
        _wait(device)
        best = min(best, time.perf_counter() - clock)
    return 2 * n**3 / best


def _profile(step: Any, device: str) -> str:
    """Where one step's time goes: the shares of its largest operations."""
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
    with profile(activities=activities) as found:
        step()
        _wait(device)
    spent = {
        e.key: e.self_device_time_total if device == "cuda" else e.self_cpu_time_total for e in found.key_averages()
    }
    total = sum(spent.values()) or 1
    most = sorted(spent.items(), key=lambda item: -item[1])[:12]
    return "; ".join(f"{name[:60]} {time / total:.0%}" for name, time in most)


def _wait(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


# ---- model and texts -------------------------------------------------------------------------------------------------


def _make_model(folder: Path, size: str) -> None:
    """A random BERT of the size, whose tokenizer makes one token of a word."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(0)
    backbone = folder / "backbone"
    backbone.mkdir(parents=True, exist_ok=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(VOCABULARY))]
    (backbone / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    BertTokenizerFast(vocab=str(backbone / "vocab.txt"), model_max_length=512).save_pretrained(backbone)
    layers, dimensions, heads = SIZES[size]
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=dimensions,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * dimensions,
    )
    BertModel(config).save_pretrained(backbone)
    modules = [Transformer(str(backbone), max_seq_length=512), Pooling(dimensions, pooling_mode="mean"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder / "model"), create_model_card=False)


def _pairs(kind: str, count: int, most: int) -> Iterator[dict[str, str]]:
    """Distinct pairs of words at random: log-normal numbers of them, or the medians of these for all texts."""
    draw = random.Random(0)
    for number in range(count):
        yield {
            name: _text(draw, number, kind, most, *shape) for name, shape in (("query", QUERY), ("positive", PASSAGE))
        }


def _text(draw: random.Random, number: int, kind: str, most: int, median: float, sigma: float) -> str:
    tokens = median * most * (draw.lognormvariate(0, sigma) if kind == "uneven" else 1)
    words = [f"w{number % VOCABULARY}", f"w{number // VOCABULARY}"]
    return " ".join(words + [f"w{draw.randrange(VOCABULARY)}" for _ in range(round(tokens) - 4)])


def _load(options: argparse.Namespace, device: str = "cpu") -> Any:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(_model(options)), device=device)
    model.max_seq_length = options.max_length
    return model


def _model(options: argparse.Namespace) -> Path:
    return options.model or options.work / options.size / "model"


# ---- processes -------------------------------------------------------------------------------------------------------


def _child(name: str, options: argparse.Namespace) -> Told:
    keys = ("size", "kind", "batch", "mini_batch", "gpu_mini_batch", "max_length", "steps", "device", "work", "model")
    given = [f"--{key.replace('_', '-')}={value}" for key in keys if (value := getattr(options, key)) is not None]
    return _measured([sys.executable, __file__, "--child", name, *given], options)


def _measured(command: list[Any], options: argparse.Namespace) -> Told:
    """Run `command` to its end: what it told, and the most memory that it held."""
    told = options.work / "told.json"
    told.unlink(missing_ok=True)
    paths = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    with (options.work / "log.txt").open("a") as log:
        environment = os.environ | {"PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(map(str, command[1:4]))} failed: see {options.work / 'log.txt'}")
    said = json.loads(told.read_text()) or {"wall": 0.0, "cpu": 0.0}
    return Told(said["wall"], said["cpu"], usage.ru_maxrss / 1024)


def _threads() -> str:
    return f"{os.environ.get('OMP_NUM_THREADS') or os.cpu_count()} threads"


PARTS = {"lengths": lengths, "memory": memory, "gpu": gpu}
CHILDREN = {
    "prepare": prepare,
    "ours": ours,
    "plain": plain,
    "uncached": uncached,
    "gpu-ours": of_gpu(is_ours=True),
    "gpu-plain": of_gpu(is_ours=False),
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=["lengths", "memory"])
    parser.add_argument("--size", choices=SIZES, default="mini", help="of the random model")
    parser.add_argument("--model", type=Path, help="a local embedding model instead")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--large-batch", type=int, default=2048, help="of the part `memory`")
    parser.add_argument(
        "--mini-batch", type=int, default=32, help="`train.mini_batch_size` of ours; the plain script has its own 32"
    )
    parser.add_argument("--gpu-mini-batch", type=int, default=128, help="of both")
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--steps", type=int, default=3, help="that are measured, after one that is not")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda", help="of the part `gpu`")
    parser.add_argument("--peers", nargs="*", choices=["flagembedding"], default=["flagembedding"])
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark-train"))
    parser.add_argument("--environment", type=Path, help="FlagEmbedding's; else WORK/flagembedding")
    parser.add_argument("--child", choices=CHILDREN, help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=["uneven", "even"], default="uneven", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.work = options.work.absolute()
    options.environment = (options.environment or options.work / "flagembedding").absolute()
    return options


if __name__ == "__main__":
    main()
