"""How well `medembed generate` keeps an LLM server busy, against its peers, on the same work, in one run.

    python benchmarks/generate.py                          # all cases, all peers; a Markdown table, and results.json beside the runs
    python benchmarks/generate.py --peers --cases natural  # ours alone
    python benchmarks/generate.py --memory                 # 200,000 notes: what streaming them costs in memory

The server (`loopback.py`) is a process of its own. Its log tells when its slots were busy, so no client measures itself.
"""

import argparse
import heapq
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

HERE = Path(__file__).parent
QUERIES = {"keyword": 2, "question": 2, "treatment": 2}


@dataclass
class Result:
    """What one contestant did with one case."""

    case: str
    contestant: str
    share: float  # of the ideal throughput: ideal wall time / wall time, first request to last answer
    lost: int  # requests without an answer in its output
    cpu: float  # seconds (user and system, all its processes) for 1,000 requests, start-up apart
    memory: float  # MiB at its peak, all its processes (PSS: shared pages count once)
    start_up: float  # seconds from the command to the first request
    wall: float  # seconds from the first request to the last answer
    after: float  # seconds from the last answer to the command's end
    refused: int  # requests that met a full queue (429)


@dataclass(frozen=True)
class Contestant:
    """A way to have the same requests answered: its command, and how many answers its output holds."""

    name: str
    command: Callable[[Path, list[str]], list[str]]  # of a work folder and the servers' URLs
    answered: Callable[[Path], int]
    endpoints: int  # that it can ask at the same time


def main() -> None:
    args = _arguments()
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.memory:
        _tell([memory(args.memory, args.slots, args.folder / "memory")], args.folder / "memory.json")
        return
    notes = args.folder / "notes.jsonl"
    write_notes(notes, args.requests, words=250)
    requests = args.folder / "requests.jsonl"  # what ours asked; the peers ask the very same
    requests.unlink(missing_ok=True)
    competing = [[ours(notes)], *(PEERS[peer](requests, args) for peer in args.peers)]
    results = []
    for case in args.cases:
        for settings in competing:
            if len(servers_of(case, args.slots)) > settings[0].endpoints:
                continue
            did = [contest(case, setting, args, None if requests.exists() else requests) for setting in settings]
            results += did
            # After the first case each goes on at its best setting.
            settings[:] = [max(zip(did, settings, strict=True), key=lambda pair: pair[0].share)[1]]
    _tell(results, args.folder / "results.json")


# ---- cases -----------------------------------------------------------------------------------------------------------


def servers_of(case: str, slots: int) -> list[dict[str, Any]]:
    """The options of the servers of a case. A queue of a third: with 96 slots, 128 requests at once, TGI's default."""
    one = {"slots": slots, "queue": slots // 3, "seed": 42}
    quarter = {"slots": slots // 4, "queue": slots // 12, "seed": 43}
    return {
        "natural": [one],
        "stragglers": [one | {"stragglers": 0.02}],
        "failures": [one | {"failures": 0.02}],
        "two endpoints": [one, quarter],
    }[case]


CASES = ("natural", "stragglers", "failures", "two endpoints")


def contest(case: str, contestant: Contestant, args: argparse.Namespace, record: Path | None) -> Result:
    """Let one contestant do one case; `record` is where the requests are written that it asked."""
    folder = args.folder / re.sub(r"\W+", "-", f"{case} {contestant.name}").strip("-")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    options = servers_of(case, args.slots)
    with ExitStack() as stack:
        urls = [stack.enter_context(server(**each, keep_bodies=record is not None)) for each in options]
        started = time.monotonic()
        usage = measured(contestant.command(folder, urls), folder)
        ended = time.monotonic()
        logs = [get(f"{url}/log") for url in urls]
        if record:
            bodies = {json.dumps(body): None for url in urls for body in get(f"{url}/bodies")}
            record.write_text("".join(f"{body}\n" for body in bodies), encoding="utf-8")
    generations = sorted((each for log in logs for each in log["generations"]), key=lambda each: each["begun"])
    first, last = min(log["first"] for log in logs if log["first"]), max(each["ended"] for each in generations)
    ideal = ideal_seconds([each["drawn"] for each in generations], sum(each["slots"] for each in options))
    print(f"{case}: {contestant.name}: {ideal / (last - first):.1%}", file=sys.stderr)
    return Result(
        case,
        contestant.name,
        share=ideal / (last - first),
        lost=args.requests - contestant.answered(folder),
        cpu=usage.cpu_since(first) / args.requests * 1000,
        memory=usage.memory,
        start_up=first - started,
        wall=last - first,
        after=ended - last,
        refused=sum(log["refused"] for log in logs),
    )


def ideal_seconds(drawn: Iterable[float], slots: int) -> float:
    """How long so many slots take for these generations, in this order, when none is ever idle while one is left (list scheduling)."""
    free = [0.0] * slots
    for seconds in drawn:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


# ---- contestants -----------------------------------------------------------------------------------------------------


def ours(notes: Path) -> Contestant:
    """The whole command, with its journal: notes are read and cut, replies read and checked, tables written."""

    def command(folder: Path, urls: list[str]) -> list[str]:
        recipe = {
            "kind": "dataset",
            "name": "benchmark",
            "notes": [{"source": str(notes.resolve()), "license": "cc0-1.0"}],
            "generate": {"endpoints": urls, "queries": QUERIES},
            "publish": {"folder": "hub"},
        }
        (folder / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
        return [sys.executable, "-m", "medembed", "generate", f"{folder}/recipe.yaml", "--run-dir", f"{folder}/run"]

    def answered(folder: Path) -> int:
        return len(pq.read_table(folder / "run/generate/pairs.parquet", columns=["note_id"])["note_id"].unique())

    return Contestant("medembed generate", command, answered, endpoints=8)


def original(requests: Path, args: argparse.Namespace) -> list[Contestant]:
    """The way of MedEmbed v0.1: `datasets.map` over processes, each with a synchronous client; and with as many as the server takes."""

    def contestant(processes: int) -> Contestant:
        script = [sys.executable, f"{HERE}/peers/original.py", str(requests)]
        return Contestant(
            f"datasets.map(num_proc={processes})",
            lambda folder, urls: [*script, *urls, f"{folder}/answers.jsonl", str(processes)],
            _answers,
            endpoints=1,
        )

    return [contestant(4), contestant(args.slots + args.slots // 3)]


def distilabel(requests: Path, args: argparse.Namespace) -> list[Contestant]:
    """distilabel in an environment of its own. It waits for the last of a batch before the next: larger ones and replicas soften that."""
    python = _environment(args.folder / "peers" / "distilabel", HERE / "peers" / "distilabel.txt")

    def contestant(batch: int, replicas: int) -> Contestant:
        script = [python, f"{HERE}/peers/distilabel_pipeline.py", str(requests)]
        return Contestant(
            f"distilabel, batch {batch}" + f" × {replicas} replicas" * (replicas > 1),
            lambda folder, urls: [*script, *urls, f"{folder}/answers.jsonl", str(batch), str(replicas)],
            _answers,
            endpoints=1,
        )

    most = args.slots + args.slots // 3
    settings = [(most, 1), (4 * most, 1), (args.requests, 1), (most // 2, 2), (most // 2, 4)]
    return [contestant(batch, replicas) for batch, replicas in settings]


PEERS = {"original": original, "distilabel": distilabel}


def _answers(folder: Path) -> int:
    with (folder / "answers.jsonl").open(encoding="utf-8") as file:
        return sum(json.loads(line)["answer"] is not None for line in file)


def _environment(folder: Path, requirements: Path) -> str:
    """The Python of a virtual environment with just these packages, made when it is not there."""
    python = folder / "bin" / "python"
    done = folder / requirements.name
    if not (done.exists() and done.read_bytes() == requirements.read_bytes()):
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-qq", "--requirement", requirements], check=True)
        shutil.copy(requirements, done)
    return str(python)


# ---- memory ----------------------------------------------------------------------------------------------------------


def memory(notes: int, slots: int, folder: Path) -> dict[str, float]:
    """Small notes streamed against a server that takes no time: MiB of RSS at the 1,000th answer, and at most from there on."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_notes(folder / "notes.jsonl", notes, words=60)
    with server(slots=slots, queue=slots // 3, seconds=[0, 0]) as url:
        contestant = ours(folder / "notes.jsonl")
        with running(contestant.command(folder, [url]), folder) as process:
            seen: list[tuple[int, float]] = []  # (answers, MiB)
            while (rss := _rss(process.pid)) is not None:
                seen.append((get(f"{url}/answered")["answered"], rss))
                time.sleep(0.2)
    (folder / "seen.json").write_text(json.dumps(seen), encoding="utf-8")
    early, *later = [rss for answers, rss in seen if answers >= 1000]
    return {
        "notes": notes,
        "answered": contestant.answered(folder),
        "MiB at 1,000": early,
        "MiB at most after": max(later),
        "MiB at the end": later[-1],
        "growth in MiB": max(later) - early,
    }


def _rss(pid: int) -> float | None:
    """MiB of the process; None when it has ended."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.memory_info().rss / 2**20
    except psutil.NoSuchProcess:
        return None


# ---- processes -------------------------------------------------------------------------------------------------------


@contextmanager
def server(**options: Any) -> Iterator[str]:
    """A loopback server for the time of the block; its URL."""
    command = [sys.executable, f"{HERE}/loopback.py", json.dumps(options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=60) as response:
        return json.load(response)


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A contestant's process; what it says goes into its folder. It has to end well."""
    path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    env = os.environ | {"PYTHONPATH": path, "HF_HOME": f"{folder}/hf", "PYTHONWARNINGS": "ignore"}
    env.pop("HF_HUB_OFFLINE", None)  # it keeps huggingface_hub's client from any server
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=env)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
    if process.wait() != 0:
        sys.exit(f"{' '.join(command)}\nended with {process.returncode}; {folder}/output.txt says why")


@dataclass
class Usage:
    """CPU seconds of a process and its children over time, and their memory at its peak."""

    samples: list[tuple[float, float]]  # (monotonic time, CPU seconds until then)
    total: float  # CPU seconds
    memory: float  # MiB

    def cpu_since(self, moment: float) -> float:
        return self.total - max((cpu for at, cpu in self.samples if at <= moment), default=0.0)


def measured(command: list[str], folder: Path) -> Usage:
    """Run a command to its end and see from outside what it uses."""
    usage = Usage([], 0.0, 0.0)
    with running(command, folder) as process:
        done = threading.Event()
        watcher = threading.Thread(target=_watch, args=(process.pid, usage, done))
        watcher.start()
        _, status, resources = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        done.set()
        watcher.join()
    # Children that were not waited for are missing in the one sum, those between two samples in the other.
    usage.total = max(usage.total, resources.ru_utime + resources.ru_stime)
    return usage


def _watch(pid: int, usage: Usage, done: threading.Event) -> None:
    seconds: dict[int, float] = {}
    weigh_at = 0.0
    while not done.wait(0.2):
        now = time.monotonic()
        try:
            main = psutil.Process(pid)
            processes = [main, *main.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        memory = 0.0
        for process in processes:
            try:
                times = process.cpu_times()
                seconds[process.pid] = times.user + times.system
                if now >= weigh_at:
                    memory += process.memory_full_info().pss / 2**20
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        usage.total = sum(seconds.values())
        usage.samples.append((now, usage.total))
        usage.memory = max(usage.memory, memory)
        if now >= weigh_at:  # to weigh many processes takes long: at most a fiftieth of the time goes into it
            weigh_at = now + 50 * (time.monotonic() - now)


# ---- notes, arguments, report ----------------------------------------------------------------------------------------


def write_notes(path: Path, notes: int, words: int) -> None:
    """Notes of about so many words, in sections of five lines, each line a sentence; no two alike."""
    rng = random.Random(42)
    vocabulary = ["".join(rng.choices("abcdeghilmnoprstu", k=rng.randint(3, 11))) for _ in range(3000)]
    with path.open("w", encoding="utf-8") as file:
        for n in range(notes):
            sections = []
            for title in ("History", "Examination", "Plan")[-(-words // -100) :]:
                lines = [" ".join(rng.choices(vocabulary, k=max(8, words // 15))) + f" {n}." for _ in range(5)]
                sections.append(f"{title}:\n" + "\n".join(lines))
            file.write(json.dumps({"id": str(n), "text": "\n\n".join(sections)}) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=2000, help="notes to ask about")
    parser.add_argument("--slots", type=int, default=96, help="generations that the server does at once")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), help="none: ours alone")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--memory", type=int, nargs="?", const=200_000, metavar="NOTES", help="measure memory instead")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmarks/generate"), help="runs, results, peers")
    return parser.parse_args()


COLUMNS = {
    "case": "case",
    "contestant": "contestant",
    "share": "share of ideal",
    "lost": "lost",
    "cpu": "CPU s / 1,000 requests",
    "memory": "peak MiB",
    "start_up": "start-up s",
}


def _tell(results: list[Any], path: Path) -> None:
    """The table on standard output, all figures in `path`."""
    rows = [each if isinstance(each, dict) else asdict(each) for each in results]
    path.write_text(json.dumps({"cores": os.cpu_count(), "results": rows}, indent=1) + "\n", encoding="utf-8")
    shown = COLUMNS if "share" in rows[0] else {key: key for key in rows[0]}
    print(f"| {' | '.join(shown.values())} |\n|{'---|' * len(shown)}")
    for row in rows:
        print(f"| {' | '.join(_figure(key, row[key]) for key in shown)} |")


def _figure(key: str, value: Any) -> str:
    if key == "share":
        return f"{value:.1%}"
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main()
