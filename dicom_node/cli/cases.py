"""``cases``: builds, extends, verifies, searches and measures an index of similar reference cases.

Heavy libraries are imported inside the functions: the root command imports this module at every start.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer
from rich.progress import Progress

from dicom_node.analysis.model_errors import translated_model_errors
from dicom_node.cli.case_output import (
    cases_as_json,
    index_as_json,
    print_cases,
    print_index,
    print_retrieval_figures,
)
from dicom_node.cli.context import settings_of
from dicom_node.cli.labelled_data import read_labelled_data
from dicom_node.cli.options import AsJson, BundleArgument, DatasetName, DatasetRoot, FiguresFile
from dicom_node.cli.output import check_output_targets, stderr_console, write_figures
from dicom_node.errors import ConfigurationError

if TYPE_CHECKING:
    from models.bundles.predictor import Predictor
    from models.retrieval.index import CaseIndex

app = typer.Typer(
    help="Similar cases: build an index of reference cases, search it, and measure the results.",
    no_args_is_help=True,
)

_Index: TypeAlias = Annotated[
    str, typer.Argument(metavar="INDEX", help="folder of the index, or name of the bundle that built it")
]
_IndexBundle: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--bundle",
        "-b",
        help="name or folder of the bundle that built the index; if absent, the shipped bundle of that name",
    ),
]
_References: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--references",
        metavar="SPLIT",
        help="split whose studies are the reference cases; the other queries if absent",
    ),
]
_ReferencesRoot: TypeAlias = Annotated[
    Path | None,
    typer.Option("--references-root", help="folder of the data set of the reference cases; --data if absent"),
]


@app.command()
def build(
    ctx: typer.Context,
    bundle: BundleArgument,
    root: DatasetRoot,
    dataset: DatasetName = "openi",
    split: Annotated[
        str, typer.Option("--split", help="split whose studies become reference cases")
    ] = "train",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="folder of the index; indexes/NAME-VERSION in the data directory if absent"
        ),
    ] = None,
    compact: Annotated[
        bool,
        typer.Option("--compact", help="keep no reports, and the vectors in half precision: for handing on"),
    ] = False,
) -> None:
    """Build an index: embed the films and reports of a split with a bundle, and save them with their labels.

    The index contains reports of the data set, but for a compact one, and stays under its terms. RESEARCH
    USE ONLY.
    """
    with translated_model_errors():
        from models.bundles.predictor import Predictor
        from models.retrieval.build import build_index
        from models.retrieval.index import write_index

        predictor = Predictor.load(bundle)
        films = read_labelled_data(dataset, root)
        folder = out or settings_of(ctx).index_of(predictor.bundle.manifest.folder)
        with _progress_bars() as progress:
            index = build_index(
                predictor, films.name, films.split(split), name=f"{films.name} {split}", progress=progress
            )
        index = write_index(folder, index, compact=compact)
    print_index(folder, index)
    typer.echo(f"terms of its reports and labels: {films.terms}")


@app.command()
def add(
    ctx: typer.Context,
    index: _Index,
    root: DatasetRoot,
    split: Annotated[str, typer.Option("--split", help="split whose studies are added")],
    dataset: DatasetName = "openi",
    bundle: _IndexBundle = None,
) -> None:
    """Add the studies of a split that are not in the index yet."""
    with translated_model_errors():
        from models.retrieval.build import build_index
        from models.retrieval.index import read_index, shipped_index, write_index

        folder = _folder(ctx, index)
        held = read_index(folder)
        predictor = _load_index_bundle(held, bundle)
        films = read_labelled_data(dataset, root)
        names = {case.identifier for case in held.cases}
        new = [study for study in films.split(split) if f"{films.name}:{study.identifier}" not in names]
        if not new:
            typer.echo(f"{folder}: every study of {films.name} {split} is in it already")
            return
        name = f"{films.name} {split}"
        with _progress_bars() as progress:
            more = build_index(predictor, films.name, new, name=name, progress=progress)
        if folder == shipped_index(held.origin.bundle):  # what the package ships stays as it is
            folder = settings_of(ctx).index_of(held.origin.bundle)
        more = more if held.reports is not None else more.without_reports()
        held = write_index(folder, held.extended(more))
    print_index(folder, held)


@app.command()
def verify(ctx: typer.Context, index: _Index, bundle: _IndexBundle = None, as_json: AsJson = False) -> None:
    """Verify the hashes and vectors of an index, and the weights of its bundle. Exit code 1 on a mismatch."""
    with translated_model_errors():
        from models.retrieval.index import read_index

        folder = _folder(ctx, index)
        held = read_index(folder)
        _load_index_bundle(held, bundle, runtime="auto")
    if as_json:
        typer.echo(json.dumps(index_as_json(folder, held), indent=2))
    else:
        print_index(folder, held)


@app.command()
def query(
    ctx: typer.Context,
    index: _Index,
    *,
    film: Annotated[
        list[Path] | None,
        typer.Option("--film", help="film of one study, DICOM or an image file; may be repeated"),
    ] = None,
    text: Annotated[
        str | None, typer.Option("--text", help="words as in a report, in English; instead of --film")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="number of cases to find")] = 5,
    side: Annotated[
        Literal["known", "films", "reports"],
        typer.Option("--side", help="part of a case that is compared: films, reports, or all that is known"),
    ] = "known",
    engine: Annotated[
        str, typer.Option("--engine", help="search engine: exact, hnsw, ivfpq or pgvector")
    ] = "exact",
    bundle: _IndexBundle = None,
    as_json: AsJson = False,
) -> None:
    """Find the reference cases most similar to films or words. RESEARCH USE ONLY."""
    if bool(film) == (text is not None):
        raise ConfigurationError("give either --film, once or more, or --text")
    with translated_model_errors():
        from dicom_node.analysis.film_files import read_film
        from dicom_node.analysis.similar_cases import nearest_cases
        from models.processing.types import Film
        from models.retrieval.index import read_index
        from models.retrieval.search import Searcher

        held = read_index(_folder(ctx, index))
        predictor = _load_index_bundle(held, bundle, runtime="auto" if text is None else "torch")
        url = settings_of(ctx).vectors_url
        if text is not None:
            from models.retrieval.build import embed_query

            vector, unknown = embed_query(predictor, held, text)
            if unknown:
                stderr_console.print(f"words that no report uses: {', '.join(unknown)}", markup=False)
            with Searcher(held, side=side, engine=engine, url=url) as searcher:
                (found,) = searcher.nearest(vector, k)
        else:
            given = [Film(str(path), read_film(path)) for path in film or ()]
            found = nearest_cases(predictor, held, given, k, side=side, engine=engine, url=url)
    if len(found) < k:
        stderr_console.print(f"the index holds {len(found)} such cases: all of them are listed", markup=False)
    if as_json:
        typer.echo(json.dumps(cases_as_json(found), indent=2))
    else:
        print_cases(found)


@app.command()
def learn(
    root: DatasetRoot,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="file of the labeler that is written")],
    dataset: DatasetName = "openi",
    split: Annotated[
        str, typer.Option("--split", help="split whose reports the labeler learns from")
    ] = "train",
) -> None:
    """Train a report labeler, which says which labels a report mentions.

    It labels the reports of an index and the words of a query, for every bundle. The package comes with one
    that was trained in this way.
    """
    with translated_model_errors():
        from models.retrieval.report_labeler import fit_labeler, write_labeler

        films = read_labelled_data(dataset, root)
        reader = fit_labeler(films.split(split))
        write_labeler(out, reader)
    typer.echo(f"{out}: labels reports with {len(reader.keys)} labels, trained on {films.name} {split}")


@app.command()
def evaluate(
    bundle: BundleArgument,
    root: DatasetRoot,
    queries: Annotated[
        str, typer.Option("--queries", metavar="SPLIT", help="split whose studies are the queries")
    ],
    *,
    dataset: DatasetName = "openi",
    references: _References = None,
    references_root: _ReferencesRoot = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="add the figures to the bundle and its model card")
    ] = False,
    figures_file: FiguresFile = None,
    as_json: AsJson = False,
) -> None:
    """Measure how well a bundle finds similar cases, by three rules of relevance. RESEARCH USE ONLY.

    Queries and reference cases are embedded directly from films and reports; no index is needed.
    """
    if references_root is not None and references is None:
        raise ConfigurationError("--references-root needs --references: give that too")
    check_output_targets(None, figures_file)
    with translated_model_errors():
        from models.bundles.predictor import Predictor
        from models.evaluation.retrieval import DatasetSplit, evaluate_retrieval

        predictor = Predictor.load(bundle)
        films = read_labelled_data(dataset, root)
        asked = DatasetSplit(films, queries)
        held = None
        if references is not None:
            elsewhere = references_root is not None and references_root != root
            others = read_labelled_data(dataset, references_root or root) if elsewhere else films
            held = DatasetSplit(others, references)
        with _progress_bars() as progress:
            figures = evaluate_retrieval(predictor, asked, held, progress=progress)
        if keep:
            from models.evaluation import card

            card.record_metrics(predictor.bundle, card.RETRIEVAL, figures["references"], figures)
    write_figures(figures, figures_file, print_retrieval_figures, as_json=as_json)


def _folder(ctx: typer.Context, name: str) -> Path:
    """Return the folder of an index; the name of a bundle stands for the index that a node would use."""
    from models.bundles.bundle import find_bundle
    from models.errors import BundleError
    from worker.model_loading import index_folder

    if Path(name).is_dir():
        return Path(name)
    try:
        return index_folder(settings_of(ctx), find_bundle(name).name)
    except BundleError:
        raise ConfigurationError(f"{name}: neither a folder nor the name of a bundle") from None


def _load_index_bundle(index: CaseIndex, bundle: str | None, *, runtime: str = "torch") -> Predictor:
    """Return the bundle that built an index, after a check of its weights."""
    from models.bundles.predictor import Predictor

    predictor = Predictor.load(bundle or index.origin.bundle, runtime=runtime)
    index.check_origin(predictor.identity)
    return predictor


@contextmanager
def _progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Show one progress bar for each step; yield the function that advances them."""
    with Progress(console=stderr_console, transient=True) as progress:
        tasks: dict[str, Any] = {}

        def advance(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = progress.add_task(step, total=total)
            progress.update(tasks[step], completed=done, total=total)

        yield advance
