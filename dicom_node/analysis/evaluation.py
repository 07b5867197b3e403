"""Evaluation of a bundle on a labelled table of films."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_node.analysis.film_files import read_film
from dicom_node.analysis.model_errors import translated_model_errors
from dicom_node.analysis.packages import packages_of

if TYPE_CHECKING:
    import pandas as pd

    from dicom_node.analysis.bundle import LoadedBundle


@packages_of("train")
def evaluate(
    bundle: LoadedBundle, table: str | Path | pd.DataFrame, *, split: str = "test"
) -> dict[str, Any]:
    """Measure a bundle on a labelled table of films; the figures are those of ``dicom-node evaluate --csv``.

    Parameters
    ----------
    bundle
        Bundle to measure.
    table
        CSV file or DataFrame with a row for each film: ``path``, from the folder of the file or the working
        directory; a column of 1, 0 or nothing for each label, by its key or name; perhaps ``patient``, the
        unit of the intervals, and ``split``.
    split
        Split to measure on; all rows are of it in a table without a column ``split``.

    Returns
    -------
    dict
        Figures, as ``dicom-node evaluate --json`` prints them: ``macro`` and ``labels`` with intervals of
        95 %, ``warnings``, ``subgroups``.

    Raises
    ------
    ConfigurationError
        If scikit-learn is not installed (extra ``train``).
    NodeError
        If the table or a film cannot be read.
    """
    from models.data.film_table import read_film_table
    from models.evaluation.evaluate import evaluate as measure

    with translated_model_errors(), tempfile.TemporaryDirectory(prefix="dicom-node-table-") as folder:
        file = Path(table) if isinstance(table, str | Path) else Path(folder) / "table"
        if not isinstance(table, str | Path):
            paths = [str(Path(path).absolute()) for path in table.get("path", [])]
            (table.assign(path=paths) if paths else table).to_csv(file, index=False)
        films = read_film_table(file, bundle.predictor.labels, split=split, read=read_film)
        return measure(bundle.predictor, films, split=split)
