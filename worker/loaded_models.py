"""Loaded models of a worker process: bundles and remote models, the last used ones in memory."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from dataclasses import replace

from dicom_node.config.installation import this_installation
from dicom_node.config.served_models import ModelRole, ModelState, ServedModel
from dicom_node.config.settings import Settings
from dicom_node.errors import ConfigurationError
from models.bundles.bundle import Bundle
from models.bundles.predictor import Predictor, StudyPredictor
from models.errors import ModelError
from models.remote.predictor import RemotePredictor
from worker.model_loading import load_predictor, load_searcher
from worker.model_reader import ModelReader
from worker.supplementary_explanations import check_page_methods

_LOG = logging.getLogger(__name__)


class LoadedModels:
    """Models that read studies in this process.

    Parameters
    ----------
    settings
        Settings of the node.
    gate
        Identity of the gate that the films pass first; empty without one.
    """

    def __init__(self, settings: Settings, *, gate: str) -> None:
        self._settings = settings
        self._gate = gate
        self._readers: OrderedDict[str, ModelReader] = OrderedDict()
        self._failed: set[str] = set()
        self._runs_on: dict[str, str] = {}
        self._states = {served.name: ModelState.of(served) for served in settings.served_models}
        self._stands_in = False

    @classmethod
    def holding(cls, settings: Settings, predictor: StudyPredictor, *, gate: str) -> LoadedModels:
        """Return models of which the first primary one of the settings is loaded already."""
        models = cls(settings, gate=gate)
        models._hold(settings.primary_models[0], predictor)
        return models

    def load(self) -> None:
        """Load every model once, so that a wrong setting is known at the start; keep as many as may stay.

        A shadow that cannot be loaded is left out, and a remote model that does not answer is asked again
        when a study comes: neither keeps the others from reading.

        Raises
        ------
        ConfigurationError
            If a primary bundle cannot be loaded, or two primary models have the same name.
        """
        names: dict[str, str] = {}
        for served in self._settings.served_models:
            try:
                reader = self._open(served)
            except ConfigurationError as error:
                if served.role is ModelRole.PRIMARY:
                    raise
                _LOG.error("model %s is left out: %s", served.name, error)
                self._failed.add(served.name)
                self.note(served, f"left out: {error}")
                continue
            except ModelError as error:
                _LOG.warning("model %s does not answer yet: %s", served.name, error)
                self.note(served, str(error))
                continue
            name = reader.predictor.identity.name
            if (
                served.role is ModelRole.PRIMARY
                and (other := names.setdefault(name, served.name)) != served.name
            ):
                raise ConfigurationError(
                    f"models: {other} and {served.name} are both the model {name}, and a PACS could not tell "
                    "their series apart; make one of them a shadow"
                )

    def get(self, served: ServedModel) -> ModelReader | None:
        """Return a model that reads, loaded if it is not; None for a shadow that cannot be.

        Raises
        ------
        ConfigurationError
            If a bundle that could be loaded at the start can be no more.
        models.errors.ModelError
            If a remote primary model does not answer.
        """
        if served.name in self._readers:
            self._readers.move_to_end(served.name)
            return self._readers[served.name]
        if served.name in self._failed:
            return None
        try:
            return self._open(served)
        except (ConfigurationError, ModelError) as error:
            self.note(served, str(error))
            if served.role is ModelRole.PRIMARY:
                raise
            _LOG.error("model %s does not read: %s", served.name, error)
            return None

    def _open(self, served: ServedModel) -> ModelReader:
        predictor = load_predictor(self._settings, served)
        if isinstance(predictor, Predictor):  # a remote model draws its own maps alone
            check_page_methods(predictor, self._settings.results)
        return self._hold(served, predictor)

    def _hold(self, served: ServedModel, predictor: StudyPredictor) -> ModelReader:
        """Keep a loaded model, and unload the one that was not used for longest if there are too many."""
        reader = ModelReader(
            served,
            self._settings,
            predictor,
            load_searcher(self._settings, predictor),
            gate=self._gate,
            equipment=this_installation(self._settings),
        )
        if self._stands_in:
            predictor.session.stand_in_by_processor()
        self._readers[served.name] = reader
        self.note(served, model=f"{predictor.identity.name} {predictor.identity.version}")
        most = self._settings.worker.loaded_models
        while most is not None and len(self._readers) > most:
            name, oldest = self._readers.popitem(last=False)
            _LOG.debug("model %s is unloaded", name)
            oldest.close()
        return reader

    @property
    def bundles(self) -> list[Bundle]:
        """Bundles in memory."""
        predictors = [each.predictor for each in self._readers.values()]
        return [each.bundle for each in predictors if isinstance(each, Predictor)]

    @property
    def remote(self) -> list[RemotePredictor]:
        """Remote models that have described themselves."""
        predictors = [each.predictor for each in self._readers.values()]
        return [each for each in predictors if isinstance(each, RemotePredictor)]

    @property
    def states(self) -> list[ModelState]:
        """States of all models, in the order of the settings."""
        return list(self._states.values())

    def note(self, served: ServedModel, problem: str = "", model: str = "") -> None:
        """Note that a model reads, or what it failed of."""
        known = self._states[served.name]
        now = replace(known, problem=problem, model=model or known.model)
        if now != known:
            self._states[served.name] = replace(now, since=time.time())

    def forget(self, served: ServedModel) -> None:
        """Drop a model from memory, so that it is loaded, or describes itself, anew."""
        if (reader := self._readers.pop(served.name, None)) is not None:
            reader.close()

    @property
    def runs_on(self) -> dict[str, str]:
        """Device and version of the inference runtime of the first model, as it was last seen."""
        if self.first is not None:
            self._runs_on = dict(self.first.predictor.session.describe())
        return self._runs_on

    @property
    def first(self) -> ModelReader | None:
        """Reader of the first primary model; None while it is not in memory."""
        return self._readers.get(self._settings.primary_models[0].name)

    def stand_in_by_processor(self) -> None:
        """Let the processor read in place of the configured device."""
        self._stands_in = True
        for reader in self._readers.values():
            reader.predictor.session.stand_in_by_processor()

    def close(self) -> None:
        """Close what the models hold."""
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
