"""``deidentify``: write copies of DICOM files, or of stored studies, that may leave for people."""

from __future__ import annotations

import atexit
import contextlib
import json
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.cli.context import open_index, settings_of
from dicom_node.cli.options import AsJson
from dicom_node.cli.output import counted, translated_write_errors
from dicom_node.errors import ConfigurationError, NodeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dicom_node.config.settings import Settings
    from dicom_node.imaging.deidentification import Retention
    from dicom_node.imaging.deidentifier import Deidentifier
    from dicom_node.imaging.pixel_mask import Rectangle


def deidentify(
    ctx: typer.Context,
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="FILES", help="DICOM files, or folders of them")
    ] = None,
    studies: Annotated[
        list[str] | None,
        typer.Option("--study", metavar="UID", help="a study of this node: its films and results"),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="folder for the copies")] = Path("deidentified"),
    retain: Annotated[
        list[str] | None,
        typer.Option(
            "--retain", help="keep uids, dates (moved), device, patient (sex, age, size), institution"
        ),
    ] = None,
    masks: Annotated[
        list[str] | None,
        typer.Option(
            "--mask", metavar="X,Y,WIDTH,HEIGHT", help="rectangle to blacken in every picture, in pixels"
        ),
    ] = None,
    unknown_is_clean: Annotated[
        bool,
        typer.Option(
            "--unknown-is-clean", help="take pictures that do not say whether text is burned in as free of it"
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write copies without identity, by the Basic Profile of PS3.15 with options.

    Pseudonyms follow from the secret of the site: whatever is exported today and later fits together. A
    picture with burned-in text, or one that does not say, is refused unless rectangles are given to mask; so
    is what repeats such a picture. Exit code 1 when something was refused. RESEARCH USE ONLY.
    """
    settings = settings_of(ctx)
    deidentifier = _deidentifier(settings, retain, masks or (), clean=unknown_is_clean)
    sources = list(dict.fromkeys([*_named(paths or ()), *_stored(settings, studies or ())]))
    if not sources:
        raise ConfigurationError("no files: name files, folders or --study UID")
    written, refused = 0, []
    unclean = set()
    for path in sources:
        try:
            unclean.add(deidentifier.unclean(path))
        except NodeError:
            continue  # said below
    with _audited(settings, out) as exported:
        for path in sources:
            try:
                done = deidentifier.file(path, frozenset(unclean - {""}))
            except NodeError as error:
                refused.append({"file": str(path), "reason": str(error)})
                continue
            target = out / done.study_instance_uid / f"{done.sop_instance_uid}.dcm"
            with translated_write_errors("--out", out):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(done.content)
            exported(path)
            written += 1
    if as_json:
        typer.echo(json.dumps({"written": written, "refused": refused, "out": str(out)}, indent=2))
    else:
        for each in refused:
            typer.echo(f"refused {each['file']}: {each['reason']}")
        typer.echo(f"{counted(written, 'file')} written to {out}, {len(refused)} refused")
    if refused:
        raise typer.Exit(1)


@contextlib.contextmanager
def _audited(settings: Settings, out: Path) -> Iterator[Callable[[Path], None]]:
    """Yield a function that takes each file whose copy was written.

    In the end, that of an error too, the audit trail says so, one entry for each study. Where the settings
    name no node there is no trail.
    """
    from dicom_node.audit_trail import events
    from dicom_node.audit_trail.trail import AuditTrail
    from dicom_node.imaging import attributes
    from dicom_node.imaging.pixels import read_header
    from dicom_node.store import database

    index = None if database.is_new(settings.database) else open_index(settings)
    exported: list[Path] = []
    try:
        yield exported.append
    finally:
        if index is not None:
            trail = AuditTrail.open(settings, index.engine)
            first: dict[str, Path] = {}
            classes: defaultdict[str, Counter[str]] = defaultdict(Counter)
            for path in exported:
                header = read_header(path)
                study = attributes.text(header, "StudyInstanceUID")
                first.setdefault(study, path)
                classes[study][attributes.text(header, "SOPClassUID")] += 1
            for study, path in first.items():
                what = f"{classes[study].total()} de-identified copies to {out}"
                subject = trail.subjects.of_file(path, study, classes[study])
                trail.record(events.exported(events.operator(), what, subject))
            trail.close()
            index.close()


def _deidentifier(
    settings: Settings, retain: Sequence[str] | None, masks: Sequence[str], *, clean: bool
) -> Deidentifier:
    from dicom_node.config.data_dir import DataDir
    from dicom_node.imaging.decoder import Decoder
    from dicom_node.imaging.deidentification import DeidentificationOptions
    from dicom_node.imaging.deidentifier import Deidentifier
    from dicom_node.imaging.pseudonyms import Pseudonyms

    section = settings.deidentification
    options = DeidentificationOptions(
        retain=frozenset(map(_retention, section.retain if retain is None else retain)),
        masks=tuple(map(_rectangle, masks)),
        unknown_is_clean=clean or section.unknown_pictures == "keep",
    )
    limits = settings.worker
    decoder = Decoder(
        max_pixels=limits.max_pixels, decode_seconds=limits.decode_seconds, decode_bytes=limits.decode_bytes
    )
    atexit.register(decoder.close)
    secret = DataDir(settings).deidentification_secret()
    return Deidentifier(Pseudonyms(secret), options, lambda path: decoder.decode_cells(path).tobytes())


def _named(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.exists():
            raise ConfigurationError(f"{path}: there is no such file or folder")
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (each for each in files if each.is_file() and each.name.upper() != "DICOMDIR")


def _stored(settings: Settings, studies: Sequence[str]) -> Iterator[Path]:
    from dicom_node.config.data_dir import DataDir
    from dicom_node.store.study_files import study_files

    if not studies:
        return
    data_dir = DataDir(settings)
    index = open_index(settings)
    try:
        for uid in studies:
            found = study_files(index.engine, uid)
            if found is None:
                raise ConfigurationError(
                    f"--study {uid}: this node has no such study; see `dicom-node status`"
                )
            yield from map(data_dir.spool.path, found.films)
            yield from map(data_dir.results.path, found.results)
    finally:
        index.close()


def _retention(word: str) -> Retention:
    from dicom_node.imaging.deidentification import Retention

    try:
        return Retention(word)
    except ValueError:
        raise ConfigurationError(f"--retain {word}: use {', '.join(Retention)}") from None


def _rectangle(text: str) -> Rectangle:
    from dicom_node.imaging.pixel_mask import Rectangle

    if not re.fullmatch(r"\d{1,6}(,\d{1,6}){3}", text):
        raise ConfigurationError(f"--mask {text}: give X,Y,WIDTH,HEIGHT in pixels, such as 0,0,400,60")
    return Rectangle(*map(int, text.split(",")))
