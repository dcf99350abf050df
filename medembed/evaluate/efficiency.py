"""What a model costs: parameters, memory, embeddings a second, bytes of an index. A loaded model in; figures out, the measured apart.

Speed is measured on made-up texts, the same on every machine and for every model, whose lengths are spread as those of real passages.
"""

import random
import time
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder, SentenceTransformer

    Encoder: TypeAlias = SentenceTransformer | MultiVectorEncoder

_TEXT = (
    "a the of and in to with for was is on at by no not patient history acute chronic pain chest heart failure pressure blood "
    "treatment dose daily oral study trial group risk increased reduced compared results between after before during disease "
    "infection cancer diabetes insulin renal liver lung function level normal elevated symptoms diagnosis surgery therapy"
)
WORDS = _TEXT.split()
MEDIAN, SPREAD = 144, 0.95  # words of a text, log-normal, as of the answers in MedQuAD
LONGEST = 2000  # words
TIMED = 64  # texts
BATCH_SIZES = (1, 32)
SECONDS = 1.0  # of timing at least, for each batch size
SAMPLE = 256  # passages from which the number of vectors is estimated


def is_known(model: Any) -> bool:
    """Whether this is a model of sentence-transformers, dense or of late interaction."""
    from sentence_transformers import MultiVectorEncoder, SentenceTransformer

    return isinstance(model, SentenceTransformer | MultiVectorEncoder)


def sizes(model: "Encoder") -> dict[str, Any]:
    """What is known of a model without running it; `vectors` says whether a text has one, or one for each token."""
    from sentence_transformers import MultiVectorEncoder

    parameters = list(model.parameters())
    return {
        "parameters": sum(each.numel() for each in parameters),
        "weights_bytes": sum(each.numel() * each.element_size() for each in chain(parameters, model.buffers())),
        "dimensions": model.get_embedding_dimension(),
        "max_length": model.max_seq_length,
        "vectors": "one a token" if isinstance(model, MultiVectorEncoder) else "one a text",
    }


def speed(model: "Encoder") -> dict[str, Any]:
    """Embeddings a second for each batch size, on passages; on a GPU also the most memory that it took there, weights included."""
    import torch

    on_gpu = model.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(model.device)
    told: dict[str, Any] = {
        "device": torch.cuda.get_device_name(model.device) if on_gpu else f"CPU, threads: {torch.get_num_threads()}",
        "embeddings_per_second": {str(size): round(_rate(model, size), 1) for size in BATCH_SIZES},
    }
    if on_gpu:
        told["peak_gpu_bytes"] = torch.cuda.max_memory_allocated(model.device)
    return told


def texts(number: int, seed: int = 42) -> list[str]:
    """Texts of natural lengths, in no order of length."""
    generator = random.Random(seed)
    lengths = (min(LONGEST, max(1, round(MEDIAN * generator.lognormvariate(0, SPREAD)))) for _ in range(number))
    return [" ".join(generator.choices(WORDS, k=length)) for length in lengths]


def vectors(model: "Encoder", passages: list[str], batch_size: int) -> int:
    """How many vectors an index of the passages holds: one each, or of late interaction as many as tokens, estimated from a sample."""
    from sentence_transformers import MultiVectorEncoder

    if not isinstance(model, MultiVectorEncoder):
        return len(passages)
    sample = random.Random(0).sample(passages, min(SAMPLE, len(passages)))
    found = model.encode_document(sample, batch_size=batch_size, show_progress_bar=False)
    return round(len(passages) * sum(map(len, found)) / len(sample))


def _rate(model: "Encoder", batch_size: int) -> float:
    """Embeddings a second: all texts, over again until the time is up; a first batch, which warms up, does not count."""
    given = texts(TIMED)
    model.encode_document(given[:batch_size], batch_size=batch_size, show_progress_bar=False)
    encoded, clock = 0, time.perf_counter()
    while not encoded or time.perf_counter() - clock < SECONDS:
        for start in range(0, TIMED, batch_size):  # numpy arrays come back, so the work is done when the call is
            model.encode_document(given[start : start + batch_size], batch_size=batch_size, show_progress_bar=False)
        encoded += TIMED
    return encoded / (time.perf_counter() - clock)
