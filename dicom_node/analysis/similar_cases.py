"""Similar cases of a reference set, by films."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_node.analysis.films import named_film
from dicom_node.analysis.model_errors import translated_model_errors
from dicom_node.analysis.packages import packages_of
from dicom_node.errors import ConfigurationError

if TYPE_CHECKING:
    import pandas as pd

    from dicom_node.analysis.bundle import LoadedBundle
    from models.bundles.predictor import Predictor
    from models.processing.types import Film
    from models.retrieval.index import CaseIndex, Side
    from models.retrieval.search import Neighbour


def nearest_cases(
    predictor: Predictor,
    index: CaseIndex,
    films: Sequence[Film],
    k: int,
    *,
    side: Side = "known",
    engine: str = "exact",
    url: str | None = None,
) -> tuple[Neighbour, ...]:
    """Return the reference cases nearest to the films of one study, most similar first.

    Parameters
    ----------
    predictor
        Bundle that built the index.
    k
        Largest number of cases.
    side
        Part of a case that is compared: ``films``, ``reports`` or ``known``, all that is known.
    engine
        Search engine: ``exact``, ``hnsw``, ``ivfpq`` or ``pgvector``.
    url
        Database of ``pgvector``.

    Raises
    ------
    models.errors.ModelError
        If the index cannot be searched.
    """
    from models.processing.types import Study
    from models.retrieval.embedding import embed_queries
    from models.retrieval.search import Searcher

    vector = embed_queries(predictor.predict([Study(tuple(films))]), side)
    with Searcher(index, side=side, engine=engine, url=url) as searcher:
        (found,) = searcher.nearest(vector, k)
    return found


@packages_of("tables")
def find_similar_cases(
    bundle: LoadedBundle,
    films: str | Path | Any | Sequence[str | Path | Any],
    k: int = 5,
    *,
    index: str | Path | None = None,
) -> pd.DataFrame:
    """Find the reference cases most similar to the films of one study.

    Parameters
    ----------
    bundle
        Bundle that built the index.
    films
        Film or films of one study: DICOM or image files, or arrays in [0, 1] with dark lungs.
    k
        Largest number of cases.
    index
        Folder of the index, of ``dicom-node cases build``; if absent, that of the bundle in the data
        directory of the settings, or the one that comes with the package.

    Returns
    -------
    pandas.DataFrame
        A row for each case, most similar first: ``case``, ``similarity`` (cosine, -1 to 1), ``labels``
        (list of keys) and ``report``.

    Raises
    ------
    ConfigurationError
        If there is no such file or index, or pandas is not installed (extra ``tables``).
    NodeError
        If a film cannot be read, or the index is damaged or of other weights.
    """
    import pandas as pd

    from models.retrieval.index import is_index, read_index
    from worker.model_loading import index_folder

    several = films if isinstance(films, list | tuple) else [films]
    folder = (
        Path(index)
        if index is not None
        else index_folder(bundle.settings, bundle.predictor.bundle.manifest.folder)
    )
    if not is_index(folder):
        raise ConfigurationError(
            f"{folder}: there is no index; `dicom-node cases build {bundle.name} --data FOLDER` makes one"
        )
    if k < 1 or not several:
        raise ConfigurationError("give one film or more, and a k of 1 or more")
    with translated_model_errors():
        held = read_index(folder)
        held.check_origin(bundle.predictor.identity)
        given = [named_film(film, f"film {number}") for number, film in enumerate(several, start=1)]
        found = nearest_cases(bundle.predictor, held, given, k)
    return pd.DataFrame(
        {
            "case": [entry.case.identifier for entry in found],
            "similarity": [float(entry.similarity) for entry in found],
            "labels": [sorted(entry.case.labels) for entry in found],
            "report": [entry.case.report for entry in found],
        }
    )
