"""``models``: makes, lists, shows, verifies and exports model bundles, and downloads encoders to train from.

Heavy libraries are imported inside the functions: the root command imports this module at every start.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from dicom_node.analysis.model_errors import translated_model_errors
from dicom_node.cli import model_check, model_export, model_import, model_tables
from dicom_node.cli.options import AsJson, BundleArgument
from dicom_node.cli.output import Terminal, table_console
from dicom_node.errors import ConfigurationError

app = typer.Typer(
    help="List, show, verify, import, export and calibrate model bundles; check remote models.",
    no_args_is_help=True,
)

app.command("import")(model_import.import_)
app.command()(model_import.calibrate)
app.command()(model_check.check)
app.command()(model_export.export)

_Cache: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        help="folder of the downloaded encoders; ~/.cache/dicom-node/encoders if absent",
    ),
]


@app.command("list")
def list_(ctx: typer.Context, cache: _Cache = None, as_json: AsJson = False) -> None:
    """List the shipped model bundles and those of the settings, and the encoders to train from."""
    from dicom_node.cli.context import settings_of
    from models.bundles.lookup import shipped_bundles

    with translated_model_errors():
        roles = model_tables.configured_roles(settings_of(ctx))
        bundles = [
            {**model_tables.bundle_row(path), "used": roles.get(path.resolve(), "")}
            for path in dict.fromkeys([*(each.resolve() for each in shipped_bundles()), *roles])
        ]
        encoders = [model_tables.encoder_row(name, _cache(cache)) for name in _encoders(_cache(cache))]
    if as_json:
        typer.echo(json.dumps({"bundles": bundles, "encoders": encoders}, indent=2))
        return
    console = table_console()
    cells = map(model_tables.bundle_cells, bundles)
    console.print(model_tables.make_table(model_tables.BUNDLE_COLUMNS, cells))
    cells = map(model_tables.encoder_cells, encoders)
    console.print(model_tables.make_table(model_tables.ENCODER_COLUMNS, cells))
    console.print("Research use only.")


@app.command()
def show(bundle: BundleArgument, as_json: AsJson = False) -> None:
    """Show a bundle: architecture, preprocessing, labels, their calibration and the test figures."""
    with translated_model_errors():
        from models.bundles.bundle import find_bundle, read_bundle

        found = read_bundle(find_bundle(bundle))
        facts, labels = model_tables.bundle_facts(found), model_tables.label_rows(found)
    if as_json:
        typer.echo(json.dumps({**facts, "labels": labels}, indent=2))
        return
    as_text = model_tables.as_text
    console = table_console()
    rows = ((name, as_text(value)) for name, value in facts.items())
    console.print(model_tables.make_table(("", ""), rows, header=False))
    cells = (tuple(map(as_text, label.values())) for label in labels)
    console.print(model_tables.make_table(model_tables.LABEL_COLUMNS, cells))
    console.print(
        "Research use only: a score without calibration is not a probability, and no score is a diagnosis."
    )


@app.command()
def promote(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="name of an entry of models in the settings")],
    beside: Annotated[
        bool, typer.Option("--beside", help="leave the models that are primary now primary too")
    ] = False,
) -> None:
    """Make a shadow primary in the configuration file (--config), and what was primary a shadow.

    A running node takes it within half a minute and loses no study. Promote the former one to go back.
    """
    from dicom_node.audit_trail import events
    from dicom_node.audit_trail.trail import AuditTrail
    from dicom_node.cli.context import config_of, open_whole_index, settings_of
    from dicom_node.config.promotion import promote as change_roles

    settings = settings_of(ctx)
    if (config := config_of(ctx)) is None:
        raise ConfigurationError("name the configuration file: dicom-node --config FILE models promote NAME")
    changed = change_roles(config, settings, name, beside=beside)
    index = open_whole_index(settings, read_all=False)
    trail = AuditTrail.open(settings, index.engine)
    trail.record(events.model_promoted(events.operator(), str(changed)))
    trail.close()
    index.close()
    typer.echo(f"{config}: {changed}")


@app.command()
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME",
            help="names or folders of bundles, or encoders as OWNER/NAME; all that are here if absent",
        ),
    ] = None,
    cache: _Cache = None,
    as_json: AsJson = False,
) -> None:
    """Verify hashes, weights and labels. Exit code 1 when something is wrong, with the reason."""
    from models.bundles.lookup import shipped_bundles

    folder = _cache(cache)
    chosen = names or [
        *map(str, shipped_bundles()),
        *(name for name in _encoders(folder) if _cached(name, folder)),
    ]
    results = {name: _problem(name, folder) for name in chosen}
    if as_json:
        typer.echo(json.dumps(results, indent=2))
    else:
        console = Terminal(highlight=False, soft_wrap=True)
        for name, problem in results.items():
            console.print(f"{name}: {problem or 'whole'}", markup=False)
    if any(results.values()):
        raise typer.Exit(1)


@app.command()
def pull(
    name: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="name of an encoder on the Hugging Face hub")
    ],
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="DIR", help="folder that has its files already; then nothing is downloaded"
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option("--revision", help="branch, tag or commit on the hub; main if absent")
    ] = None,
    cache: _Cache = None,
) -> None:
    """Download an encoder for training, and save it with its hashes in the layout of the Hugging Face hub.

    Only weights, configuration and tokenizer are saved. Observe the terms under which the encoder is
    published.
    """
    if source is not None and revision is not None:
        raise ConfigurationError("--revision is a revision on the hub: leave it out with --from")
    with translated_model_errors():
        from dicom_node.cli import hub
        from models.pretrained.encoders import CHECKSUMS, add_to_cache

        folder = _cache(cache)
        encoder = hub.pull(name, folder, revision) if source is None else add_to_cache(source, name, folder)
    size = model_tables.megabytes(encoder.path)
    typer.echo(
        f"{name}: {encoder.kind}, {size} MB in {encoder.path}, hashes in {CHECKSUMS}; "
        f"name it in a recipe as hf:{name}"
    )


def _cache(given: Path | None) -> Path:
    from models.pretrained.encoder_cache import encoder_cache

    return given or encoder_cache()


def _encoders(cache: Path) -> list[str]:
    from models.pretrained.encoder_cache import cached_names, recommended_encoders

    return list(dict.fromkeys([*recommended_encoders(), *cached_names(cache)]))


def _cached(name: str, cache: Path) -> bool:
    from models.pretrained.encoder_cache import encoder_folder

    return encoder_folder(name, cache).is_dir()


def _problem(name: str, cache: Path) -> str:
    """Return what is wrong with a bundle or an encoder; empty when it is whole."""
    from models.errors import ModelError
    from models.pretrained.encoder_cache import cached_names, encoder_folder

    try:
        if name in cached_names(cache):
            from models.pretrained.encoders import read_encoder

            encoder = read_encoder(encoder_folder(name, cache))
            encoder.state()
            encoder.tokenizer()
        else:
            _load(name)
    except ModelError as error:
        return str(error)
    return ""


def _load(name: str) -> None:
    """Load a bundle in torch where that is installed, else in ONNX Runtime."""
    from models.bundles.bundle import find_bundle, read_bundle
    from models.bundles.predictor import Predictor
    from models.bundles.runtime import ONNX, TORCH, is_installed

    bundle = read_bundle(find_bundle(name))
    if is_installed(TORCH) and not bundle.manifest.graph_alone:
        bundle.network()
    if bundle.has_graph and is_installed(ONNX):
        Predictor(bundle, runtime=ONNX)
