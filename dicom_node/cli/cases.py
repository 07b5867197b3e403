"""``index``: reference cases that a study may be like: build, extend, verify, search and measure.

Heavy libraries are imported inside the commands, because the root command imports this module at every start.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from dicom_node.cli.context import settings_of
from dicom_node.cli.evaluate import console, labelled, one_sentence
from dicom_node.errors import ConfigurationError, NodeError

if TYPE_CHECKING:
    from models.bundles.predictor import Predictor
    from models.processing.types import FloatArray
    from models.retrieval.index import Index
    from models.retrieval.search import Neighbour

app = typer.Typer(
    help="Similar cases: build an index of reference cases, search it, measure what it finds.",
    no_args_is_help=True,
)

#: Characters of a report that are shown on a terminal.
_EXCERPT = 100

IndexName = Annotated[str, typer.Argument(metavar="INDEX", help="folder, or the bundle whose index it is")]
BundleName = Annotated[str, typer.Argument(metavar="BUNDLE", help="name of a shipped bundle, or a folder")]
Root = Annotated[Path, typer.Option("--root", help="folder of the data set")]
Dataset = Annotated[str, typer.Option("--dataset", help="openi or nih")]
WeightsOf = Annotated[
    str | None,
    typer.Option("--bundle", help="name or folder; when absent, the shipped bundle that built the index"),
]
AsJson = Annotated[bool, typer.Option("--json", help="for scripts")]


@app.command()
def build(
    ctx: typer.Context,
    bundle: BundleName,
    root: Root,
    dataset: Dataset = "openi",
    split: Annotated[str, typer.Option("--split", help="whose studies become cases")] = "train",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="folder; when absent, indexes/NAME-VERSION in the data directory"),
    ] = None,
) -> None:
    """Embed the films and reports of a split with a bundle, and keep them with their labels as an index.

    The index holds reports of the data set and stays under its terms. RESEARCH USE ONLY.
    """
    with one_sentence():
        from models.bundles.predictor import Predictor
        from models.retrieval.build import build_index
        from models.retrieval.index import write_index

        predictor = Predictor.load(bundle)
        films = labelled(dataset, root)
        folder = out or _home(ctx, predictor.bundle.manifest.folder)
        with _showing() as progress:
            index = build_index(
                predictor, films.name, films.split(split), name=f"{films.name} {split}", progress=progress
            )
        index = write_index(folder, index)
    _say_index(folder, index)
    typer.echo(f"reports and labels in it: {films.terms}")


@app.command()
def add(
    ctx: typer.Context,
    index: IndexName,
    root: Root,
    split: Annotated[str, typer.Option("--split", help="whose studies are added")],
    dataset: Dataset = "openi",
    bundle: WeightsOf = None,
) -> None:
    """Add the studies of a split that the index does not hold yet."""
    with one_sentence():
        from models.retrieval.build import build_index
        from models.retrieval.index import read_index, write_index

        folder = _folder(ctx, index)
        held = read_index(folder)
        predictor = _bundle_of(held, bundle)
        films = labelled(dataset, root)
        names = {case.identifier for case in held.cases}
        new = [study for study in films.split(split) if f"{films.name}:{study.identifier}" not in names]
        if not new:
            typer.echo(f"{folder}: every study of {films.name} {split} is in it already")
            return
        name = f"{films.name} {split}"
        with _showing() as progress:
            more = build_index(predictor, films.name, new, name=name, progress=progress)
        held = write_index(folder, held.extended(more))
    _say_index(folder, held)


@app.command()
def verify(ctx: typer.Context, index: IndexName, bundle: WeightsOf = None, as_json: AsJson = False) -> None:
    """Verify hashes, vectors and the bundle's weights. Exit code 1 when something is wrong."""
    with one_sentence():
        from models.retrieval.index import read_index

        folder = _folder(ctx, index)
        held = read_index(folder)
        _bundle_of(held, bundle)
    if as_json:
        typer.echo(json.dumps(_facts(folder, held), indent=2))
    else:
        _say_index(folder, held)


@app.command()
def query(
    ctx: typer.Context,
    index: IndexName,
    *,
    film: Annotated[
        list[Path] | None, typer.Option("--film", help="of one study: DICOM or an image; may be repeated")
    ] = None,
    text: Annotated[str | None, typer.Option("--text", help="words of a report, in English")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="cases to find")] = 5,
    side: Annotated[
        Literal["known", "films", "reports"], typer.Option("--side", help="what of a case is compared")
    ] = "known",
    engine: Annotated[str, typer.Option("--engine", help="exact, hnsw, ivfpq or pgvector")] = "exact",
    bundle: WeightsOf = None,
    as_json: AsJson = False,
) -> None:
    """Find the cases that films or words are most like. RESEARCH USE ONLY."""
    if bool(film) == (text is not None):
        raise ConfigurationError("give either --film, once or more, or --text")
    with one_sentence():
        from models.retrieval.build import embed_query
        from models.retrieval.index import read_index
        from models.retrieval.search import Searcher

        held = read_index(_folder(ctx, index))
        predictor = _bundle_of(held, bundle)
        url = settings_of(ctx).vectors_url
        if text is not None:
            place, unknown = embed_query(predictor, held, text)
            if unknown:
                console.print(f"no report uses: {', '.join(unknown)}", markup=False)
        else:
            place = _place(predictor, film or [])
        with Searcher(held, side=side, engine=engine, url=url) as searcher:
            (found,) = searcher.nearest(place, k)
    if len(found) < k:
        console.print(f"the index holds {len(found)} such cases: all of them are listed", markup=False)
    if as_json:
        typer.echo(json.dumps({"cases": [_as_json(entry) for entry in found], **_RESEARCH}, indent=2))
    else:
        _print_cases(found)


@app.command()
def learn(
    root: Root,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="where the reader is written")],
    dataset: Dataset = "openi",
    split: Annotated[str, typer.Option("--split", help="whose reports are learnt from")] = "train",
) -> None:
    """Learn which labels a report speaks of, as the reader that comes with the package was learnt.

    It reads the reports of indexes and of queries, and serves every bundle.
    """
    with one_sentence():
        from models.retrieval.report_labeler import fit_reader, write_reader

        films = labelled(dataset, root)
        reader = fit_reader(films.split(split))
        write_reader(out, reader)
    typer.echo(f"{out}: reads {len(reader.keys)} labels off reports, learnt from {films.name} {split}")


@app.command()
def evaluate(
    bundle: BundleName,
    root: Root,
    queries: Annotated[str, typer.Option("--queries", metavar="SPLIT", help="whose studies are asked for")],
    dataset: Dataset = "openi",
    references: Annotated[
        str | None,
        typer.Option(
            "--references", metavar="SPLIT", help="among which cases are found; the queries' own when absent"
        ),
    ] = None,
    references_root: Annotated[
        Path | None, typer.Option("--references-root", help="folder of their data set; --root when absent")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="enter the figures in the bundle and its card")
    ] = False,
    json_: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="write the figures there; - for standard output"),
    ] = None,
) -> None:
    """Measure how well a bundle finds similar cases, by three rules of relevance. RESEARCH USE ONLY.

    Embeds queries and references straight from the films and reports; no index is needed.
    """
    if references_root is not None and references is None:
        raise ConfigurationError("--references-root says where the split of --references is: name that too")
    from dicom_node.cli.evaluate import check_targets, put

    check_targets(None, json_)
    with one_sentence():
        from models.bundles.predictor import Predictor
        from models.evaluation.retrieval import Part, evaluate_retrieval

        predictor = Predictor.load(bundle)
        films = labelled(dataset, root)
        asked = Part(films, queries)
        held = None
        if references is not None:
            elsewhere = references_root is not None and references_root != root
            held = Part(labelled(dataset, references_root or root) if elsewhere else films, references)
        with _showing() as progress:
            figures = evaluate_retrieval(predictor, asked, held, progress=progress)
        if keep:
            from models.evaluation import card

            card.keep(predictor.bundle, card.RETRIEVAL, figures["references"], figures)
    put(figures, json_, show)


_RESEARCH = {"intended_use": "RESEARCH USE ONLY"}


def show(figures: Mapping[str, Any]) -> None:
    """Print the tables."""
    from models.evaluation import retrieval_tables

    terminal = Console(highlight=False)
    terminal.print("RESEARCH USE ONLY: not for diagnosis", style="bold")
    for table in retrieval_tables.tables(figures):
        cells = Table(title=table.title, title_justify="left", box=None, padding=(0, 1), pad_edge=False)
        for number, name in enumerate(table.header):
            cells.add_column(name, justify="right" if number else "left")
        for row in table.rows:
            cells.add_row(*map(escape, row))
        terminal.print(cells)
        terminal.print(table.note, "", markup=False)


def _home(ctx: typer.Context, bundle_folder: str) -> Path:
    return settings_of(ctx).index_of(bundle_folder)


def _folder(ctx: typer.Context, name: str) -> Path:
    """Folder of an index; the name of a bundle stands for the place where its index is built."""
    from models.bundles.bundle import find_bundle
    from models.errors import BundleError

    if Path(name).is_dir():
        return Path(name)
    try:
        return _home(ctx, find_bundle(name).name)
    except BundleError:
        raise NodeError(f"{name}: there is neither such a folder nor a bundle of that name") from None


def _bundle_of(index: Index, bundle: str | None) -> Predictor:
    from models.bundles.predictor import Predictor

    predictor = Predictor.load(bundle or index.origin.bundle)
    index.check_origin(predictor.identity)
    return predictor


def _place(predictor: Predictor, paths: Sequence[Path]) -> FloatArray:
    from dicom_node.cli.films import read_film
    from models.processing.types import Film, Study
    from models.retrieval.embedding import places

    study = Study(tuple(Film(str(path), read_film(path)) for path in paths))
    return places(predictor.predict([study]))


@contextmanager
def _showing() -> Iterator[Callable[[str, int, int], None]]:
    with Progress(console=console, transient=True) as progress:
        tasks: dict[str, Any] = {}

        def say(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done, total=total)

        yield say


def _facts(folder: Path, index: Index) -> dict[str, Any]:
    return {
        "path": str(folder),
        "name": index.name,
        "cases": len(index.cases),
        "width": index.width,
        "reports": index.reports is not None,
        "bundle": index.origin.bundle,
        "weights_sha256": index.origin.weights_sha256,
        "text_encoder": index.origin.text_encoder,
        "digest": index.digest,
        **_RESEARCH,
    }


def _say_index(folder: Path, index: Index) -> None:
    typer.echo(
        f"{folder}: whole; {len(index.cases)} cases ({index.name}), {index.width} numbers each, of "
        f"{index.origin.bundle}; digest {index.digest[:12]}; research use only"
    )


def _as_json(entry: Neighbour) -> dict[str, Any]:
    return {
        "case": entry.case.identifier,
        "similarity": entry.similarity,
        "labels": sorted(entry.case.labels),
        "report": entry.case.report,
    }


def _print_cases(found: Sequence[Neighbour]) -> None:
    from models.labels.vocabulary import load_vocabulary

    vocabulary = load_vocabulary()
    terminal = Console(highlight=False)
    terminal.print("RESEARCH USE ONLY: not for diagnosis", style="bold")
    table = Table("rank", "case", "similarity", "labels", "report", box=None, pad_edge=False)
    for rank, entry in enumerate(found, start=1):
        names = [vocabulary.labels[key].name for key in sorted(entry.case.labels)]
        report = entry.case.report
        excerpt = report if len(report) <= _EXCERPT else report[:_EXCERPT].rsplit(" ", 1)[0] + " ..."
        table.add_row(
            str(rank),
            entry.case.identifier,
            f"{entry.similarity:.3f}",
            escape(", ".join(names)),
            escape(excerpt),
        )
    terminal.print(table)
