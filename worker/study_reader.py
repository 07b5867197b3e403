"""Study reader: analyses the films of one study with every model and returns reports and their DICOM objects.

It uses neither queue nor database. ``analyze`` and the node's pipeline both call it, so the same files get
the same scores in both.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from pydicom.dataset import Dataset

from dicom_node.config.installation import this_installation
from dicom_node.config.served_models import ModelRole, ServedModel
from dicom_node.config.settings import Settings
from dicom_node.errors import EncodingFailed, NodeError
from dicom_node.imaging.decoder import Decoder
from dicom_node.results.report import Refusal, Report, Source
from dicom_node.results.sr.document import Predecessor
from dicom_node.store.states import StudyState
from models.bundles.predictor import StudyPredictor
from models.errors import ModelChanged, ModelError, ModelUnavailable
from models.gate.model import Gate
from worker.film_correction import CorrectedFilm
from worker.instance_screening import ScreenedInstance, common_refusal, screen_films, screen_headers
from worker.loaded_models import LoadedModels
from worker.model_choice import reads_study
from worker.model_loading import load_gate
from worker.model_reader import ModelAnalysis, ModelReader, encode_results, refused
from worker.prior_study import PriorStudy, ScreenedPrior
from worker.study_revision import StudyRevision

_LOG = logging.getLogger(__name__)
_NO_MODEL = "no model of the settings reads such a study: its sender, age, view or modality is none of theirs"


@dataclass(frozen=True, slots=True, eq=False)
class StudyAnalysis:
    """Outcome of the analysis of one study.

    Attributes
    ----------
    state
        REPORTED, SKIPPED or FAILED.
    reason
        Reason for SKIPPED or FAILED, as one sentence; what a further model failed of when reported, or empty.
    analyses
        Answers of the models: the primary ones first, in the order of the settings; empty when no header
        could be read.
    """

    state: StudyState
    reason: str
    analyses: tuple[ModelAnalysis, ...] = ()

    @property
    def first(self) -> ModelAnalysis | None:
        """Answer that pages show at first; None when no header could be read."""
        return self.analyses[0] if self.analyses else None

    @property
    def report(self) -> Report | None:
        """Report of the first answer; None when no header could be read."""
        return None if self.first is None else self.first.report

    @property
    def reports(self) -> tuple[Report, ...]:
        """Reports of the primary models."""
        return tuple(each.report for each in self.analyses if each.role is ModelRole.PRIMARY)

    @property
    def objects(self) -> tuple[tuple[str, Dataset], ...]:
        """Kind and data set of each result of every model, checked and ready to be written."""
        return tuple(each for analysis in self.analyses for each in analysis.objects)


@dataclass(frozen=True, slots=True)
class _Failure:
    """Model that gave no answer; `reader` is None where it could not even be loaded."""

    served: ServedModel
    error: Exception
    reader: ModelReader | None = None

    @property
    def refusal(self) -> Refusal:
        """Refusal that the model's own report gives."""
        return Refusal(
            "result_failed" if isinstance(self.error, EncodingFailed) else "model_failed", str(self)
        )

    @property
    def problem(self) -> str:
        """Clause that says what it failed of."""
        # Only these errors are known to hold nothing of a patient.
        foreseen = isinstance(self.error, ModelError | EncodingFailed)
        return str(self.error) if foreseen else type(self.error).__name__

    def __str__(self) -> str:
        return f"model {self.served.name}: {self.problem}"


class StudyReader:
    """Reader of studies, with the models loaded and a decoder process.

    Parameters
    ----------
    settings
        Settings of the node.
    models
        Models that read.
    gate
        Gate that the films pass first; None lets every film through.
    """

    def __init__(self, settings: Settings, models: LoadedModels, gate: Gate | None = None) -> None:
        self._settings = settings
        self._models = models
        self._gate = gate
        self._decoder = Decoder(
            max_pixels=settings.worker.max_pixels,
            decode_seconds=settings.worker.decode_seconds,
            decode_bytes=settings.worker.decode_bytes,
        )
        self._equipment = this_installation(settings)

    @classmethod
    def open(cls, settings: Settings) -> StudyReader:
        """Return a reader with the configured models, gate and indexes.

        Raises
        ------
        ConfigurationError
            If a primary bundle, the gate or the device is missing, an index belongs to another bundle, or a
            bundle does not support the methods of ``results.page_methods``.
        """
        gate = load_gate(settings.worker)
        models = LoadedModels(settings, gate="" if gate is None else gate.identity)
        models.load()
        return cls(settings, models, gate)

    @property
    def models(self) -> LoadedModels:
        """Models that read."""
        return self._models

    @property
    def first_predictor(self) -> StudyPredictor:
        """First primary model.

        Raises
        ------
        models.errors.ModelError
            If it is a remote one and does not answer.
        """
        reader = self._models.get(self._settings.primary_models[0])
        assert reader is not None  # a primary model is there, or an error is raised
        return reader.predictor

    @property
    def runs_on(self) -> dict[str, str]:
        """Device and version of the inference runtime that the first model runs in."""
        return self._models.runs_on

    def stand_in_by_processor(self) -> None:
        """Let the processor read in place of the configured device, as a recorded analysis had it."""
        self._models.stand_in_by_processor()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the decoder process, and close what the models hold."""
        self._decoder.close()
        self._models.close()

    def warm_up(self) -> None:
        """Start the decoder process, so that the first film does not wait for it."""
        self._decoder.warm()

    def read(self, study: StudyRevision, paths: Sequence[Path]) -> StudyAnalysis:
        """Analyse the instances of one study with every model that reads it.

        A model that fails harms no other: what it failed of is the reason of the outcome. The study fails
        when no primary model answers.

        Parameters
        ----------
        study
            Revision to analyse.
        paths
            Files of all its instances, at least one.

        Raises
        ------
        StorageFailed
            If a file cannot be opened.
        models.errors.ModelUnavailable
            If no primary model answers, and a remote one may do so later.
        models.errors.ModelError
            If no primary model gives a usable answer.
        EncodingFailed
            If a result cannot be encoded.
        """
        instances = screen_headers(paths)
        if not instances:
            return StudyAnalysis(StudyState.SKIPPED, "no instance of the study can be read as DICOM")
        films = screen_films(
            instances,
            self._decoder,
            self._gate,
            self._settings.worker.max_films,
            override_gate=study.gate_overridden,
        )
        sources = tuple(instance.source for instance in instances)
        if not films:
            return self._refusal(study, sources, common_refusal(instances))
        failures: list[_Failure] = []
        readers = self._readers(study, instances, films, failures)
        primaries = [reader for reader, _ in readers if reader.served.role is ModelRole.PRIMARY]
        if not primaries and not failures:
            return self._refusal(study, sources, Refusal("no_model", _NO_MODEL))
        # Where no primary model can be had, the study fails or waits: what a shadow says would stand alone.
        analyses = self._ask(study, instances, readers, primaries, failures) if primaries else []
        for failure in failures:
            self._models.note(failure.served, failure.problem)
        return self._outcome(study, sources, analyses, failures)

    def _ask(
        self,
        study: StudyRevision,
        instances: Sequence[ScreenedInstance],
        readers: Sequence[tuple[ModelReader, list[CorrectedFilm]]],
        primaries: Sequence[ModelReader],
        failures: list[_Failure],
    ) -> list[ModelAnalysis]:
        """Return the answers of the models, each with the films that it reads; failures are added."""
        prior = self._prior(study.prior)
        names = [reader.predictor.identity.name for reader in primaries]
        analyses: list[ModelAnalysis] = []
        for reader, shown in readers:
            name = reader.predictor.identity.name
            # Reports of models that read no more are replaced by those of the first.
            others = frozenset(names) - {name} if reader is primaries[0] else _all_but(study, name)
            try:
                analyses.append(
                    reader.read(
                        study,
                        instances,
                        shown,
                        prior,
                        predecessors=study.replaced_by(name, others),
                        one_of_several=len(names) > 1,
                    )
                )
                self._models.note(reader.served)
            except ModelChanged as error:
                self._models.forget(reader.served)  # it describes itself anew for the next try
                failures.append(_Failure(reader.served, ModelUnavailable(str(error)), reader))
                _LOG.warning(
                    "model %s: %s; it is described anew for the next study", reader.served.name, error
                )
            except (ModelError, EncodingFailed) as error:
                _LOG.error("model %s: %s", reader.served.name, error)
                failures.append(_Failure(reader.served, error, reader))
            except NodeError:
                raise
            # Broad on purpose: whatever one model fails of, the others read.
            except Exception as error:
                if len(readers) == 1:
                    raise
                _LOG.exception("model %s", reader.served.name)
                failures.append(_Failure(reader.served, error, reader))
        return analyses

    def _readers(
        self,
        study: StudyRevision,
        instances: Sequence[ScreenedInstance],
        films: Sequence[CorrectedFilm],
        failures: list[_Failure],
    ) -> list[tuple[ModelReader, list[CorrectedFilm]]]:
        """Return the models that read a study with the films that each reads, the primary ones first.

        Those that cannot be had are added to `failures`.
        """
        headers = [instance.header for instance in instances]
        found = []
        for served in sorted(self._settings.served_models, key=lambda each: each.role is ModelRole.SHADOW):
            if not reads_study(served, headers, study.calling_aes):
                continue
            try:
                reader = self._models.get(served)
            except ModelError as error:
                _LOG.error("model %s: %s", served.name, error)
                failures.append(_Failure(served, error))
                continue
            if reader is not None and (shown := reader.films(instances, films)):
                found.append((reader, shown))
        return found

    def _outcome(
        self,
        study: StudyRevision,
        sources: tuple[Source, ...],
        analyses: list[ModelAnalysis],
        failures: Sequence[_Failure],
    ) -> StudyAnalysis:
        """Return the outcome of a study that some models may have failed to read."""
        failed = [each for each in failures if each.served.role is ModelRole.PRIMARY]
        answered = [each for each in analyses if each.role is ModelRole.PRIMARY]
        if failed and not answered:
            # A remote model may answer at the next try.
            errors = [each.error for each in failed]
            raise next((error for error in errors if isinstance(error, ModelUnavailable)), errors[0])
        for each in failed:
            if each.reader is not None:
                name = each.reader.predictor.identity.name
                analyses.append(
                    each.reader.refuse(
                        study,
                        sources,
                        each.refusal,
                        predecessors=study.replaced_by(name, _all_but(study, name)),
                        one_of_several=True,
                    )
                )
        # Answers go before refusals, and shadows come last.
        analyses.sort(key=lambda each: (each.role is ModelRole.SHADOW, each.report.refusal is not None))
        first = analyses[0].report.refusal
        if first is not None:  # every model lacked something of the study, such as its text
            return StudyAnalysis(StudyState.SKIPPED, first.text, tuple(analyses))
        reason = "; ".join(map(str, failed))
        return StudyAnalysis(StudyState.REPORTED, reason, tuple(analyses))

    def _prior(self, prior: PriorStudy | None) -> ScreenedPrior | str | None:
        """Return the prior study for the models, or the reason why there is none."""
        if prior is None:
            return None
        if prior.reason:
            return prior.reason
        return ScreenedPrior(
            prior,
            lambda found: screen_films(found, self._decoder, self._gate, self._settings.worker.max_films),
            gated=self._gate is not None,
        )

    def refuse(self, study: StudyRevision, paths: Sequence[Path], refusal: Refusal) -> StudyAnalysis:
        """Return the analysis of a failed study: a report of the reason, made from the headers alone."""
        sources = tuple(instance.source for instance in screen_headers(paths))
        if not sources:
            return StudyAnalysis(StudyState.FAILED, refusal.text)
        return replace(self._refusal(study, sources, refusal), state=StudyState.FAILED)

    def _refusal(self, study: StudyRevision, sources: tuple[Source, ...], refusal: Refusal) -> StudyAnalysis:
        report = refused(study, sources, refusal)
        replaced: Mapping[str, Predecessor] = study.replaced_by("")
        objects = encode_results(report, {}, self._settings.results, self._equipment, replaced)
        return StudyAnalysis(StudyState.SKIPPED, refusal.text, (ModelAnalysis(report, objects),))


def _all_but(study: StudyRevision, name: str) -> frozenset[str]:
    """Return the names of all models with an earlier report but one."""
    return frozenset(model for _, model in study.predecessors) - {name}
