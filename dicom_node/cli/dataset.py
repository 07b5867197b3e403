"""``dataset``: downloads a published collection of films, and counts what a folder contains.

Heavy libraries are imported inside the functions: the root command imports this module at every start.
"""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from dicom_node.cli.options import AsJson
from dicom_node.cli.output import Terminal
from dicom_node.errors import ConfigurationError, NodeError

if TYPE_CHECKING:
    from tarfile import TarFile, TarInfo

    from dicom_node.cli.published_collections import Collection, PublishedFile

_console = Terminal(stderr=True, highlight=False, soft_wrap=True)
"""Console for messages and progress; standard output holds nothing but the counts."""

_INDEX = "index.csv"
"""File that lists the films of a folder; nothing is downloaded into a folder that has one."""

_Name: TypeAlias = Annotated[str, typer.Argument(metavar="NAME", help="name of the collection: openi or nih")]
_Root: TypeAlias = Annotated[
    Path | None, typer.Option("--data", help="folder of the collection; data/NAME if absent")
]
_AcceptTerms: TypeAlias = Annotated[
    bool,
    typer.Option("--accept-terms", help="accept the collection's terms, and download the missing files"),
]
_FilmFormat: TypeAlias = Annotated[
    str | None,
    typer.Option("--films", help="format of the films to download: png or, for openi, dicom; png if absent"),
]
_Mirror: TypeAlias = Annotated[
    str | None,
    typer.Option("--mirror", metavar="URL", help="folder on a web server to download the files from"),
]


def dataset(
    name: _Name,
    root: _Root = None,
    accept_terms: _AcceptTerms = False,
    films: _FilmFormat = None,
    mirror: _Mirror = None,
    as_json: AsJson = False,
) -> None:
    """Download a published collection of chest radiographs; count studies, films and labels by split.

    Archives in the folder are unpacked. Missing files are downloaded only with --accept-terms; give the same
    command again to continue an interrupted download. RESEARCH USE ONLY.
    """
    from dicom_node.cli.published_collections import COLLECTIONS

    if name not in COLLECTIONS:
        raise ConfigurationError(f"no collection is called {name!r}; there are: {', '.join(COLLECTIONS)}")
    collection = COLLECTIONS[name]
    if films is not None and films not in collection.films:
        raise ConfigurationError(f"--films {films}: {name} has films as {' or '.join(collection.films)}")
    root = root or Path("data") / name
    missing: list[PublishedFile] = []
    if not (root / _INDEX).exists():
        missing = _prepare(root, collection, films, mirror, accept=accept_terms)
    try:
        counts = _count(name, root)
    except NodeError as error:
        if not missing:
            raise
        _console.print(collection.terms, markup=False)
        raise ConfigurationError(
            f"{error}; missing: {_names(missing)}; give --accept-terms to download them under the terms "
            f"above, or copy them here from {collection.page}"
        ) from error
    if missing:
        counts["notes"].append(f"missing: {_names(missing)}; --accept-terms downloads it")
    if as_json:
        typer.echo(json.dumps(counts, indent=2))
    else:
        _print(counts)


def _prepare(
    root: Path, collection: Collection, films: str | None, mirror: str | None, *, accept: bool
) -> list[PublishedFile]:
    """Download if the terms are accepted, unpack, and return the files that are still missing."""
    wanted = [*collection.tables, *collection.films[films or next(iter(collection.films))]]
    if accept:
        _download(root, [file for file in wanted if not _here(root, file)], collection, mirror)
    for file in (file for files in collection.films.values() for file in files):
        if (root / file.name).exists() and not file.present(root):
            _unpack(root / file.name, root / file.folder)
    return [file for file in wanted if not file.present(root)]


def _here(root: Path, file: PublishedFile) -> bool:
    return file.present(root) or (root / file.name).exists()


def _download(root: Path, files: Sequence[PublishedFile], collection: Collection, mirror: str | None) -> None:
    from dicom_node.cli.download import Unreachable, download

    urls = {file.name: f"{mirror.rstrip('/')}/{file.name}" if mirror else file.url for file in files}
    by_hand = [file for file in files if not urls[file.name]]
    if by_hand:
        raise NodeError(
            f"no permanent address is known of {_names(by_hand)}: copy it from {collection.page} into {root} "
            "and give the command again"
        )
    _make_room(root, files)
    with _progress() as progress:
        for file in files:
            task = progress.add_task(file.name, total=file.size)
            try:
                download(
                    urls[file.name],
                    root / file.name,
                    size=file.size,
                    digest=file.digest,
                    progress=functools.partial(_advance, progress, task),
                )
            except Unreachable as error:
                left = [other for other in files if not _here(root, other)]
                raise NodeError(
                    f"{error}: give the command again later, or copy {_names(left)} from {collection.page} "
                    f"into {root}"
                ) from error


def _make_room(root: Path, files: Sequence[PublishedFile]) -> None:
    """Make the folder, and check that its disk has room for the files."""
    needed = sum(file.size or 0 for file in files)
    try:
        root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(root).free
    except OSError as error:
        raise NodeError(f"--data {root}: {error.strerror}; name a folder that can be written") from error
    if needed > free:
        raise NodeError(
            f"--data {root}: the download needs {needed / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are free"
        )


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack a whole archive; nothing of it stays if that fails."""
    import tarfile
    import zlib

    draft = folder.with_name(folder.name + ".part")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        with _progress() as progress, archive.open("rb") as file, tarfile.open(fileobj=file) as tar:
            task = progress.add_task(f"unpacking {archive.name}", total=archive.stat().st_size)
            for member in tar:
                _unpack_member(tar, member, draft.resolve())
                progress.update(task, completed=file.tell())
        draft.rename(folder)
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise NodeError(
            f"{archive} cannot be unpacked: {error}; free disk space, or delete it and give the command again"
        ) from error


def _unpack_member(tar: TarFile, member: TarInfo, folder: Path) -> None:
    """Unpack one file, and refuse names outside the folder, links and devices.

    An archive is not trusted. The filters of PEP 706 do the same, but Python 3.11 has them only from 3.11.4,
    and Debian 12 has 3.11.2.
    """
    from tarfile import ReadError

    target = (folder / member.name).resolve()
    if not target.is_relative_to(folder):
        raise ReadError(f"{member.name} would be outside the folder")
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    content = tar.extractfile(member) if member.isfile() else None
    if content is None:
        raise ReadError(f"{member.name} is neither a file nor a folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with content, target.open("wb") as unpacked:
        shutil.copyfileobj(content, unpacked)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=_console,
        transient=True,
    )


def _advance(progress: Progress, task: TaskID, done: int, total: int | None) -> None:
    progress.update(task, completed=done, total=total)


def _names(files: Sequence[PublishedFile]) -> str:
    return ", ".join(file.name for file in files)


def _count(name: str, root: Path) -> dict[str, Any]:
    """Return the counts of :func:`models.data.counts.count`, and the boxes by label."""
    from collections import Counter

    from dicom_node.analysis.model_errors import translated_model_errors
    from models.data.boxes import read_boxes
    from models.data.counts import count
    from models.data.readers import read_dataset
    from models.labels.vocabulary import load_vocabulary

    with translated_model_errors():
        vocabulary = load_vocabulary()
        counts = count(read_dataset(name, root, vocabulary), vocabulary)
        boxes = Counter(box.key for found in read_boxes(root).values() for box in found)
    return {**counts, "boxes": dict(boxes.most_common())}


def _print(counts: dict[str, Any]) -> None:
    console = Terminal(highlight=False)
    splits = list(counts["splits"])
    console.print(f"{counts['title']}; {counts['terms']}; research use only", markup=False, soft_wrap=True)
    for note in counts["notes"]:
        console.print(f"  {note}", markup=False, soft_wrap=True)
    rows = {
        noun: [counts["splits"][split][noun] for split in splits]
        for noun in ("studies", "patients", "films", "reports", "indications")
    }
    views = {view for split in splits for view in counts["splits"][split]["views"]}
    for view in sorted(views):
        rows[f"{view} view"] = [counts["splits"][split]["views"].get(view, 0) for split in splits]
    for fact, known in counts["facts"].items():
        rows[f"{fact} known"] = [known[split] for split in splits]
    console.print(_table("", splits, rows))
    for name, labels in counts["labels"].items():
        console.print(
            _table(name, splits, {key: [of[split] for split in splits] for key, of in labels.items()})
        )
    if counts["boxes"]:
        console.print(_table("boxes", ["all"], {key: [found] for key, found in counts["boxes"].items()}))


def _table(title: str, columns: Sequence[str], rows: dict[str, list[int]]) -> Table:
    table = Table(title, *columns, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, cells in rows.items():
        table.add_row(name, *map(str, cells))
    return table
