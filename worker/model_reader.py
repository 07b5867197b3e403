"""Model reader: one model of the node, which reads the films of a study and returns a report."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset

from dicom_node.config.sections import ResultSettings
from dicom_node.config.served_models import ModelRole, ServedModel
from dicom_node.config.settings import Settings
from dicom_node.errors import StorageFailed
from dicom_node.imaging import clinical_text
from dicom_node.results.equipment import Equipment
from dicom_node.results.report import (
    FloatArray,
    Presence,
    PriorComparison,
    Refusal,
    Report,
    SimilarCases,
    Source,
)
from dicom_node.results.result_set import write_results
from dicom_node.results.sr.document import Predecessor
from models.bundles.predictor import StudyPredictor
from models.bundles.predictor import TracedPrediction as ModelReading
from models.errors import ModelError, ModelUnavailable, RetrievalError
from models.processing.types import FindingScore, Prediction, Study
from models.remote.predictor import RemotePredictor
from models.retrieval.embedding import embed_queries, embed_studies
from models.retrieval.index import FILMS
from models.retrieval.search import Searcher, neighbour_agreement
from worker.film_correction import CorrectedFilm, on_stored_films
from worker.heat_maps import draw_study_heat_maps
from worker.instance_screening import ScreenedInstance, is_frontal
from worker.model_choice import reads_film
from worker.prior_study import ScreenedPrior
from worker.report_builder import (
    ONNX_PARAMETER,
    REMOTE_PARAMETER,
    STAND_IN_PARAMETER,
    build_report,
    build_similar_cases,
    identify_algorithm,
)
from worker.study_revision import StudyRevision
from worker.supplementary_explanations import (
    NO_EXPLANATIONS,
    SupplementaryExplanations,
    make_supplementary_explanations,
)

if TYPE_CHECKING:
    from dicom_node.store.analysis_records import AnalysisRecord
    from dicom_node.store.study_embeddings import StudyEmbedding

_LOG = logging.getLogger(__name__)
_PLACES = (ONNX_PARAMETER, REMOTE_PARAMETER, STAND_IN_PARAMETER)
"""Parameters that say where a model ran, which does not change its answers."""
_OTHER_VIEW = "the model reads films of another view alone"
_PRIOR_FAILED = "the model gave no usable answer to it"
_PRIOR_UNREADABLE = "no frontal film of it can be analysed"


@dataclass(frozen=True, slots=True, eq=False)
class ModelAnalysis:
    """Answer of one model to one study.

    Attributes
    ----------
    report
        Report of the findings, or of the reason why there are none.
    objects
        Kind and data set of each result, checked and ready to be written; empty for a shadow.
    role
        Role of the model.
    seconds
        Time that the model took for the films, in seconds; None when no model was run.
    place
        Embedding of the study; None unless the node's own studies may be searched.
    supplement
        Explanations for the reading room that are in no report.
    """

    report: Report
    objects: tuple[tuple[str, Dataset], ...]
    role: ModelRole = ModelRole.PRIMARY
    seconds: float | None = None
    place: StudyEmbedding | None = None
    supplement: SupplementaryExplanations = NO_EXPLANATIONS

    @property
    def model(self) -> str:
        """Name of the model; empty when none was run."""
        return "" if self.report.algorithm is None else self.report.algorithm.name


class ModelReader:
    """Reader of screened films by one model.

    Parameters
    ----------
    served
        Entry of the model in the settings.
    settings
        Settings of the node.
    predictor
        Loaded model.
    searcher
        Searcher of the reference cases; None when similar cases are not looked for.
    gate
        Identity of the gate that the films passed; empty without one.
    equipment
        This installation.
    """

    def __init__(
        self,
        served: ServedModel,
        settings: Settings,
        predictor: StudyPredictor,
        searcher: Searcher | None,
        *,
        gate: str,
        equipment: Equipment,
    ) -> None:
        self.served = served
        self.predictor = predictor
        self._results: ResultSettings = settings.results
        self._searcher = searcher
        self._neighbours = settings.retrieval.k
        self._keeps_embedding = settings.retrieval.own_studies and served.role is ModelRole.PRIMARY
        self._gate = gate
        self._most_films = predictor.most_films if isinstance(predictor, RemotePredictor) else None
        self._equipment = equipment

    def close(self) -> None:
        """Close the connection to an index in a database."""
        if self._searcher is not None:
            self._searcher.close()

    def read(
        self,
        study: StudyRevision,
        instances: Sequence[ScreenedInstance],
        films: Sequence[CorrectedFilm],
        prior: ScreenedPrior | str | None,
        *,
        predecessors: Mapping[str, Predecessor],
        one_of_several: bool,
    ) -> ModelAnalysis:
        """Analyse the films of a study.

        Parameters
        ----------
        instances
            Instances of the study, checked.
        films
            Films that the model reads, at least one; films of the study beyond these are named as left out.
        prior
            Prior study, or the reason why there is none; None when none was looked for.
        predecessors
            Reports of earlier revisions that the reports of this one replace, by kind.
        one_of_several
            True where another primary model reads the study too.

        Raises
        ------
        models.errors.ModelError
            If the model gives no usable answer.
        EncodingFailed
            If a result cannot be encoded.
        """
        sources = self._sources(instances, films)
        text = self._text([source for source in sources if source.analysed])
        if self.predictor.text == "required" and text is None:
            name = self.predictor.identity.name
            return self.refuse(
                study,
                sources,
                Refusal("no_text", f"the model {name} needs an indication, and no header holds one"),
                predecessors=predecessors,
                one_of_several=one_of_several,
            )
        began = time.perf_counter()
        read = self._trace(instances, films, text)
        seconds = time.perf_counter() - began
        views = {instance.uid: instance.view for instance in instances}
        maps = draw_study_heat_maps(self.predictor, read, views, self._results.heat_maps)
        supplement = make_supplementary_explanations(self.predictor, read, maps.reported, self._results)
        comparison, earlier = self._compare_prior(prior)
        report = build_report(
            study_instance_uid=study.study_instance_uid,
            revision=study.revision,
            created=study.created,
            sources=sources,
            prediction=read.prediction,
            labels=self.predictor.labels,
            heatmaps=on_stored_films(maps.reported, films),
            withheld=maps.withheld,
            gate=self._gate,
            gate_overridden=study.gate_overridden,
            text=self._text_parameter(text),
            runtime=self.predictor.runtime,
            stand_in=self.predictor.session.stand_in,
            similar=self._similar(read.prediction),
            prior=comparison,
            earlier=earlier,
        )
        report = replace(report, one_of_several=one_of_several)
        pixels = {each.film.identifier: each.stored for each in films}
        return ModelAnalysis(
            report,
            self._encode(report, pixels, predecessors),
            self.served.role,
            seconds,
            self._embedding(read.prediction),
            replace(
                supplement,
                maps=on_stored_films(supplement.maps, films),
                others=on_stored_films(maps.others, films),
            ),
        )

    def _trace(
        self, instances: Sequence[ScreenedInstance], films: Sequence[CorrectedFilm], text: str | None
    ) -> ModelReading:
        study = Study(tuple(each.film for each in films), text)
        views = {each.uid: each.view for each in instances}
        files = {each.uid: each.path for each in instances}
        return self.predictor.trace([study], views=views, files=files)[0]

    def refuse(
        self,
        study: StudyRevision,
        sources: Sequence[Source],
        refusal: Refusal,
        *,
        predecessors: Mapping[str, Predecessor],
        one_of_several: bool,
    ) -> ModelAnalysis:
        """Return an analysis that says why this model has no answer."""
        report = refused(study, sources, refusal)
        algorithm = identify_algorithm(
            self.predictor.identity, self._gate, gate_overridden=study.gate_overridden
        )
        report = replace(report, algorithm=algorithm, one_of_several=one_of_several)
        return ModelAnalysis(report, self._encode(report, {}, predecessors), self.served.role)

    def _sources(
        self, instances: Sequence[ScreenedInstance], films: Sequence[CorrectedFilm]
    ) -> tuple[Source, ...]:
        """Return the entries of the instances; films that this model does not read say so."""
        read = {each.film.identifier for each in films}
        return tuple(
            replace(source, analysed=False, reason=reason, exclusion=text)
            if (source := instance.source).analysed and instance.uid not in read
            else source
            for instance in instances
            for reason, text in [self._why_not(instance)]
        )

    def _why_not(self, instance: ScreenedInstance) -> tuple[str, str]:
        """Return reason and sentence for a film that this model was not given."""
        if not self._reads_film(instance):
            return "other_view", _OTHER_VIEW
        return "too_many", f"the model reads no more than {self._most_films} films of a study"

    def _embedding(self, prediction: Prediction) -> StudyEmbedding | None:
        if not self._keeps_embedding or prediction.embedding is None:
            return None
        from dicom_node.store.study_embeddings import StudyEmbedding  # noqa: PLC0415 - SQLAlchemy comes with it

        return StudyEmbedding(
            prediction.identity.weights_sha256,
            embed_studies([prediction])[0],
            embed_queries([prediction], FILMS)[0],
        )

    def _text(self, sources: Sequence[Source]) -> str | None:
        """Return the indication from the headers; None for a model that reads no text."""
        if self.predictor.text == "none":
            return None
        return clinical_text.indication([source.header for source in sources])

    def _text_parameter(self, text: str | None) -> str:
        """Return the value of ``text`` among the algorithm's parameters; empty for a model without text."""
        return "" if self.predictor.text == "none" else "none" if text is None else "indication"

    def _compare_prior(
        self, prior: ScreenedPrior | str | None
    ) -> tuple[PriorComparison | None, dict[str, FindingScore]]:
        """Return the prior and the model's answers to it by key, or the reason why there is none."""
        if prior is None:
            return None, {}
        if isinstance(prior, str):
            return PriorComparison(reason=prior), {}
        try:
            return self._read_prior(prior)
        except ModelUnavailable:
            raise
        except (ModelError, StorageFailed) as error:
            _LOG.warning("no comparison with the prior: %s", error)
            return PriorComparison(reason=_PRIOR_FAILED), {}

    def _read_prior(self, prior: ScreenedPrior) -> tuple[PriorComparison, dict[str, FindingScore]]:
        known = self._recorded_answers(prior)
        films = [] if known else self.films(prior.instances, prior.films)
        sources = tuple(source for each in prior.instances if (source := each.source).analysed)
        if not any(is_frontal(source) for source in sources):
            return PriorComparison(reason=_PRIOR_UNREADABLE), {}
        if not known:
            text = self._text(sources)
            if not films or (self.predictor.text == "required" and text is None):
                return PriorComparison(reason=_PRIOR_UNREADABLE), {}
            read = self._trace(prior.instances, films, text)
            known = {entry.key: entry for entry in read.prediction.findings}
        return PriorComparison(sources), known

    def _recorded_answers(self, prior: ScreenedPrior) -> dict[str, FindingScore]:
        """Return the recorded answers to the same films if this model gave them, else nothing.

        The instances then get the recorded verdicts and views.
        """
        for kept in prior.study.kept:
            images = {image.sop_instance_uid: image for image in kept.images}
            if set(images) != {instance.uid for instance in prior.instances}:
                continue
            read = [each.source for each in prior.instances if not images[each.uid].reason]
            text = self._text_parameter(self._text(read))
            ours = identify_algorithm(self.predictor.identity, self._gate, text)
            # Every runtime and device gives the same answers, so which of them gave these does not matter.
            then = tuple(each for each in kept.parameters if each not in _PLACES)
            if (kept.model, kept.model_version, then) == (ours.name, ours.version, ours.parameters):
                prior.recall(kept)
                return _scores(kept)
        return {}

    def _similar(self, prediction: Prediction) -> SimilarCases | None:
        """Find similar reference cases; a failed search is logged, and the report is written without them."""
        if self._searcher is None:
            return None
        try:
            (found,) = self._searcher.nearest(embed_studies([prediction]), self._neighbours)
        except RetrievalError as error:
            _LOG.error("no similar cases: %s", error)
            return None
        neighbours = neighbour_agreement(prediction, found)
        return build_similar_cases(
            neighbours, self._searcher.index, prediction.identity, self.predictor.labels
        )

    def _encode(
        self, report: Report, pixels: Mapping[str, FloatArray], predecessors: Mapping[str, Predecessor]
    ) -> tuple[tuple[str, Dataset], ...]:
        if self.served.role is ModelRole.SHADOW:
            return ()
        return encode_results(report, pixels, self._results, self._equipment, predecessors)

    def films(
        self, instances: Sequence[ScreenedInstance], films: Sequence[CorrectedFilm]
    ) -> list[CorrectedFilm]:
        """Return those of a study's films that this model reads, by view and modality of the settings."""
        headers = {instance.uid: instance for instance in instances}
        read = [each for each in films if self._reads_film(headers[each.film.identifier])]
        return read[: self._most_films]

    def _reads_film(self, instance: ScreenedInstance) -> bool:
        return reads_film(self.served, instance.header, instance.view)


def refused(study: StudyRevision, sources: Sequence[Source], refusal: Refusal) -> Report:
    """Return the report of a study that was not analysed."""
    return Report(
        study_instance_uid=study.study_instance_uid,
        revision=study.revision,
        created=study.created,
        sources=tuple(
            replace(source, analysed=False, exclusion=source.exclusion or refusal.text) for source in sources
        ),
        algorithm=None,
        refusal=refusal,
    )


def encode_results(
    report: Report,
    pixels: Mapping[str, FloatArray],
    results: ResultSettings,
    equipment: Equipment,
    predecessors: Mapping[str, Predecessor],
) -> tuple[tuple[str, Dataset], ...]:
    """Return the objects of a report that the settings ask for, each with its kind."""
    return tuple(
        write_results(
            report,
            pixels,
            equipment=equipment,
            objects=results.objects,
            sr_class=results.sr_class,
            columns=results.saliency_columns,
            compression=results.compression,
            overview=results.overview,
            predecessors=predecessors,
        )
    )


def _scores(kept: AnalysisRecord) -> dict[str, FindingScore]:
    return {
        entry.key: FindingScore(
            key=entry.key,
            score=entry.score,
            probability=entry.certainty,
            threshold=entry.threshold,
            present=entry.presence == Presence.PRESENT.value,
            film_scores=(),
        )
        for entry in kept.findings
    }
