"""The tasks of the leaderboard: what each is, and which of its parts make its score. No import of mteb, which takes seconds.

As in mteb, a task's score is the mean of the main scores of its parts (split and subset); a test holds this table against mteb's own.
"""

from dataclasses import dataclass
from itertools import product

Part = tuple[str, str]  # split and subset


@dataclass(frozen=True)
class Task:
    """One task: its name in mteb, what it asks, its main metric, and the parts whose mean is its score."""

    name: str
    about: str
    metric: str = "nDCG@10"
    splits: tuple[str, ...] = ("test",)
    subsets: tuple[str, ...] = ("default",)

    @property
    def parts(self) -> list[Part]:
        return list(product(self.splits, self.subsets))


_CURE = (
    "all",
    "dentistry_and_oral_health",
    "dermatology",
    "gastroenterology",
    "genetics",
    "neuroscience_and_neurology",
    "orthopedic_surgery",
    "otorhinolaryngology",
    "plastic_surgery",
    "psychiatry_and_psychology",
    "pulmonology",
)
_LANGUAGES = ("arabic", "chinese", "english", "french", "korean", "russian", "spanish", "vietnamese")

TASKS = {
    task.name: task
    for task in (
        Task(
            "ArguAna", "The best counter-argument to an argument; not medical, in the headline as the original has it."
        ),
        Task("MedicalQARetrieval", "Answers to consumers' health questions, from sites of the NIH."),
        Task("NFCorpus", "Papers of PubMed for questions on nutrition in plain words."),
        Task("PublicHealthQA", "Answers of public health bodies to questions on COVID-19.", subsets=_LANGUAGES),
        Task("TRECCOVID", "Papers on COVID-19 for questions of researchers."),
        Task(
            "CUREv1", "Passages for clinicians' questions in ten specialties.", splits=_CURE, subsets=("en", "es", "fr")
        ),
        Task("TRECCOVID-PL", "TRECCOVID in Polish."),
        Task("SciFact", "Abstracts that support or refute a scientific claim."),
        Task("SciFact-PL", "SciFact in Polish."),
        Task("MedrxivClusteringP2P.v2", "Preprints of medRxiv by field, from title and abstract.", "V-measure"),
        Task("MedrxivClusteringS2S.v2", "Preprints of medRxiv by field, from the title.", "V-measure"),
        Task("CmedqaRetrieval", "Answers to patients' questions in Chinese.", splits=("dev",)),
        Task("CMedQAv2-reranking", "Candidate answers to patients' questions in Chinese, put in order.", "MAP"),
    )
}

HEADLINE: dict[str, list[Part]] = {
    task: [("test", "english")] if task == "PublicHealthQA" else TASKS[task].parts
    for task in ("ArguAna", "MedicalQARetrieval", "NFCorpus", "PublicHealthQA", "TRECCOVID")
}
"""The five tasks of the headline, in English, and the parts that make their scores there."""

BENCHMARK_NAME = "MTEB(Medical, v1)"
BENCHMARK = [task for task in TASKS if task != "ArguAna"]
