"""Text → findings: Microsoft Presidio's analyzer with our recognisers, some of its own, and a model for names where there is one.

Imports Presidio, and so stands alone. Two of Presidio's recognisers have no place here: that of URLs needs minutes for a passage of
100,000 characters and then skips it; that of e-mail addresses asks the network for a list of domains.
"""

import logging
from collections.abc import Callable
from typing import cast

import regex
from presidio_analyzer import (
    AnalyzerEngine,
    EntityRecognizer,
    LocalRecognizer,
    Pattern,
    RecognizerRegistry,
    RecognizerResult,
    predefined_recognizers,
)
from presidio_analyzer.nlp_engine import NerModelConfiguration, NlpArtifacts, NoOpNlpEngine, SpacyNlpEngine
from presidio_analyzer.predefined_recognizers import SpacyRecognizer

from medembed.curate.phi.classes import CLASSES, PhiClass
from medembed.curate.phi.identifiers import IDENTIFIERS
from medembed.curate.phi.names import PATTERNS, is_name
from medembed.curate.phi.spans import Finding, merged, plain
from medembed.recipe import Phi

# Presidio's own that are right and fast, by the class of what they find. Most check a sum of digits.
PREDEFINED: dict[str, PhiClass] = {
    "IpRecognizer": "IP",
    "MacAddressRecognizer": "device",
    "CreditCardRecognizer": "account",
    "IbanRecognizer": "account",
    "UsMbiRecognizer": "health plan",
}
LEAST = 0.4  # of a finding's confidence: all but `::` as an address, and a Medicare number without a label and without dashes


class Finder:
    """All recognisers, made ready; `find` says what they see in a text."""

    def __init__(self, setting: Phi) -> None:
        logging.getLogger("presidio-analyzer").setLevel(logging.CRITICAL)  # it may tell the text that it works on
        self._engine = _analyzer(setting.model)

    def find(self, text: str, only: PhiClass | None = None) -> list[Finding]:
        """Findings, of one class or of all, in the order of the text; none overlaps another."""
        kinds: list[str] = [only] if only else list(CLASSES)
        seen = self._engine.analyze(plain(text), language="en", entities=kinds, score_threshold=LEAST)
        return merged(Finding(each.start, each.end, cast(PhiClass, each.entity_type), each.score) for each in seen)


def _analyzer(model: str | None) -> AnalyzerEngine:
    recognisers: list[EntityRecognizer] = [_Patterns(kind, list(rows)) for kind, rows in IDENTIFIERS.items() if rows]
    recognisers.append(_Patterns("name", list(PATTERNS), is_name))
    recognisers += [getattr(predefined_recognizers, name)(supported_entity=kind) for name, kind in PREDEFINED.items()]
    # Presidio's pattern has no word boundaries, and finds a DEA number in every tenth identifier of a trial.
    dea = Pattern("DEA", r"\b[ABCDEFGHJKLMPRSTUX][A-Z9]\d{7}\b", 0.4)
    recognisers.append(predefined_recognizers.MedicalLicenseRecognizer([dea], supported_entity="licence"))
    if model:
        of_people = NerModelConfiguration(model_to_presidio_entity_mapping={"PERSON": "name", "PER": "name"})
        nlp: SpacyNlpEngine | NoOpNlpEngine = SpacyNlpEngine(
            models=[{"lang_code": "en", "model_name": model}], ner_model_configuration=of_people
        )
        recognisers.append(SpacyRecognizer(supported_entities=["name"]))
    else:
        nlp = NoOpNlpEngine([{"lang_code": "en", "model_name": ""}])
    return AnalyzerEngine(registry=RecognizerRegistry(recognisers), nlp_engine=nlp)


class _Patterns(LocalRecognizer):  # type: ignore[misc]
    """Regular expressions of one class. Presidio's own `PatternRecognizer` skips, with a log line alone, a pattern that took too long."""

    def __init__(
        self, kind: PhiClass, patterns: list[tuple[str, float]], accept: Callable[[str, float], bool] = lambda *_: True
    ) -> None:
        super().__init__(supported_entities=[kind], name=f"medembed {kind}")
        self._patterns = [(regex.compile(pattern, regex.MULTILINE), score) for pattern, score in patterns]
        self._accept = accept

    def load(self) -> None:
        pass

    def analyze(
        self, text: str, entities: list[str], nlp_artifacts: NlpArtifacts | None = None
    ) -> list[RecognizerResult]:
        return [
            RecognizerResult(self.supported_entities[0], match.start(), match.end(), score)
            for pattern, score in self._patterns
            for match in pattern.finditer(text)
            if self._accept(match[0], score)
        ]
