"""Checks of what the analysis needs: runtime and device, the bundle, its index of similar cases, the gate."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dicom_node.cli.checks.check import Check
from dicom_node.config.mistakes import nearest
from dicom_node.config.served_models import SHORT_FORM
from dicom_node.config.settings import Settings
from dicom_node.errors import NodeError
from dicom_node.runtime.extras import install_command

if TYPE_CHECKING:
    from models.bundles.bundle import Bundle


def runtime(settings: Settings) -> Iterator[Check]:
    """Report which inference runtime bundle and gate run in, and why; it and the device must be there."""
    try:
        from models.bundles.lookup import GATE_MANIFEST, find_bundle_folder
        from models.bundles.runtime import ONNX, is_installed
        from models.errors import ModelError
        from worker.model_loading import configured_runtime, gate_runtime
    except ImportError as error:
        yield _without("runtime", error)
        return
    bundles = {served.name: served.bundle for served in settings.served_models if served.bundle}
    nouns = {name: "bundle" if name == SHORT_FORM else f"model {name}" for name in bundles}
    try:
        choices = {nouns[name]: configured_runtime(settings, bundle) for name, bundle in bundles.items()}
        if settings.worker.gate:
            choices["gate"] = gate_runtime(
                settings.worker, find_bundle_folder(settings.worker.gate, GATE_MANIFEST)
            )
    except ModelError as error:
        yield Check(
            "runtime", ok=None, found=f"not chosen: {error}", remedy="correct the bundles and worker.gate"
        )
        return
    for what, choice in choices.items():
        library, extra = ("ONNX Runtime", "worker-light") if choice.name == ONNX else ("torch", "worker")
        found = f"the {what} runs in {library}: {choice.reason}"
        if is_installed(choice.name):
            yield Check(f"runtime of the {what}", ok=True, found=found)
        else:
            found, remedy = f"{found}; it is not installed", install_command(extra)
            yield Check(f"runtime of the {what}", ok=False, found=found, remedy=remedy)
    yield from _device(settings, torch_runs=any(choice.name != ONNX for choice in choices.values()))


def _device(settings: Settings, *, torch_runs: bool) -> Iterator[Check]:
    """Check that the device of the settings is there; torch, which is slow to start, is asked if it runs."""
    wanted = settings.worker.device
    cards: list[str] = []
    if torch_runs:
        try:
            import torch
        except ImportError as error:
            yield _without("device", error)
            return
        cards = [
            torch.cuda.get_device_name(n)
            for n in range(torch.cuda.device_count() * torch.cuda.is_available())
        ]
    threads = settings.worker.threads or len(os.sched_getaffinity(0))
    found = f"worker.device {wanted}: " + (
        ", ".join(f"cuda:{number} {card}" for number, card in enumerate(cards))
        if cards and wanted != "cpu"
        else f"cpu, {threads} threads"
    )
    _, _, number = wanted.partition("cuda:")
    if not wanted.startswith("cuda"):
        yield Check("device", ok=True, found=found)
    elif not torch_runs:
        remedy = "set worker.device to auto or cpu, or worker.runtime to torch"
        found = f"worker.device {wanted}: ONNX Runtime runs on the processor"
        yield Check("device", ok=False, found=found, remedy=remedy)
    elif int(number if number.isdecimal() else 0) >= len(cards):
        remedy = "set worker.device to auto or cpu, or install the driver and a torch built for it"
        found = f"worker.device {wanted}: torch finds {len(cards)} CUDA devices"
        yield Check("device", ok=False, found=found, remedy=remedy)
    else:
        yield Check("device", ok=True, found=found)


def decoder(settings: Settings) -> Iterator[Check]:
    """Check that films can be decoded, and how well the process that does it is confined."""
    from dicom_node.imaging.decoder import Decoder

    limits = settings.worker
    try:
        with Decoder(
            max_pixels=limits.max_pixels,
            decode_seconds=limits.decode_seconds,
            decode_bytes=limits.decode_bytes,
        ) as made:
            made.warm()
            lacking = ", ".join(made.lacking)
    except NodeError as error:
        yield Check("decoder", ok=False, found=str(error), remedy="raise worker.decode_bytes")
        return
    if lacking:
        found = f"its process is not confined by {lacking}, which this kernel lacks"
        remedy = "use Linux 6.7 or newer, with Landlock and seccomp"
        yield Check("decoder", ok=None, found=found, remedy=remedy)
    else:
        found = "its process reaches no network and no other process, and changes no file"
        yield Check("decoder", ok=True, found=found)


def _without(name: str, error: ImportError) -> Check:
    remedy = install_command("worker-light")
    return Check(name, ok=None, found=f"cannot be checked without {error.name}", remedy=remedy)


def bundle(settings: Settings) -> Iterator[Check]:
    """Check the model bundles, and their indexes of similar cases."""
    try:
        from models.bundles.bundle import find_bundle, read_bundle
        from models.errors import ModelError
    except ImportError as error:
        yield _without("bundle", error)
        return
    for served in settings.served_models:
        if served.bundle is None:
            continue
        noun = "bundle" if served.name == SHORT_FORM else f"bundle of {served.name}"
        try:
            whole = read_bundle(find_bundle(served.bundle))
        except ModelError as error:
            remedy = "name a shipped bundle or an undamaged folder in the settings, or install it again"
            yield Check(noun, ok=False, found=str(error), remedy=remedy)
            continue
        found = f"{whole.manifest.folder}: {len(whole.labels)} labels, every file verified"
        yield Check(noun, ok=True, found=f"{found}, weights {whole.weights_sha256[:12]}")
        yield _similar_cases(settings, served.bundle, whole)


def named(settings: Settings) -> Iterator[Check]:
    """Check that there are a bundle and a gate of the names that the settings give; reads none of them."""
    from models.bundles.lookup import GATE_MANIFEST, MANIFEST, find_bundle_folder
    from models.errors import ModelError

    served = settings.served_models
    for key, name, manifest in (
        *(
            (each.name if each.name == SHORT_FORM else f"models.{each.name}", each.bundle, MANIFEST)
            for each in served
        ),
        ("worker.gate", settings.worker.gate, GATE_MANIFEST),
    ):
        if not name:
            continue
        try:
            folder = find_bundle_folder(name, manifest)
        except ModelError as error:
            yield Check(key, ok=False, found=f"{key}: {error}", remedy="name one of these, or a folder")
        else:
            yield Check(key, ok=True, found=str(folder))
    yield from _same_names(settings)


def _same_names(settings: Settings) -> Iterator[Check]:
    """Check that no two primary bundles are of one name, which a PACS could not tell apart."""
    from models.bundles.lookup import MANIFEST, find_bundle_folder
    from models.bundles.manifest import read_table
    from models.errors import ModelError

    entries: dict[str, str] = {}
    for served in settings.primary_models:
        if served.bundle is None:
            continue
        try:
            name = str(read_table(find_bundle_folder(served.bundle, MANIFEST), MANIFEST)["name"])
        except (ModelError, KeyError):
            continue
        if (other := entries.setdefault(name, served.name)) != served.name:
            yield Check(
                f"models.{served.name}",
                ok=False,
                found=f"models: {other} and {served.name} are both the model {name}, and a PACS could not "
                "tell their series apart",
                remedy="make one of them a shadow, or import it under another name",
            )


def remote_models(settings: Settings) -> Iterator[Check]:
    """Ask every remote model what it is."""
    remote = [served for served in settings.served_models if served.url]
    if not remote:
        return
    from models.errors import ModelError
    from models.remote.predictor import RemotePredictor
    from models.remote.transport import TransportLimits

    for served in remote:
        limits = TransportLimits(seconds=min(served.timeout_seconds, 10), retries=0)
        try:
            model = RemotePredictor(
                str(served.url), token_file=served.token_file, tls_ca=served.tls_ca, limits=limits
            )
        except ModelError as error:
            remedy = f"start it, or correct models: {served.name}"
            yield Check(f"model {served.name}", ok=False, found=str(error), remedy=remedy)
            continue
        found = f"{model.url} is {model.identity.name} {model.identity.version}, {len(model.labels)} labels"
        yield Check(f"model {served.name}", ok=True, found=found)


def rules(settings: Settings) -> Iterator[Check]:
    """Check that the model has the findings that the routing rules name; a rule never matches another."""
    if not any(rule.finding for rule in settings.rules):
        return
    from dicom_node.delivery.routing import fits
    from models.bundles.lookup import label_keys
    from models.errors import ModelError

    bundles = [served.bundle for served in settings.primary_models if served.bundle]
    if len(bundles) < len(settings.primary_models):
        found = "findings not checked: the labels of a remote model are not known here"
        yield Check("rules", ok=None, found=found, remedy="`dicom-node models check URL` names them")
        return
    try:
        known = tuple(dict.fromkeys(key for bundle in bundles for key in label_keys(bundle)))
    except ModelError as error:
        yield Check("rules", ok=None, found=f"findings not checked: {error}", remedy="correct the bundle")
        return
    names = " or ".join(bundles)
    unknown = [
        (f"rules.{number}.finding", pattern)
        for number, rule in enumerate(settings.rules)
        for pattern in rule.finding
        if not any(fits(pattern, key) for key in ("", *known))
    ]
    if not unknown:
        yield Check("rules", ok=True, found=f"{names} has every finding that they name")
    for key, pattern in unknown:
        found = f"{key}: no label of {names} matches {pattern!r}{nearest(pattern, known)}"
        yield Check("rules", ok=False, found=found, remedy="correct it: the rule would never match")


def _similar_cases(settings: Settings, given: str, bundle: Bundle) -> Check:
    """Check that the index of the bundle exists, is undamaged, and was built with the bundle's weights."""
    from models.errors import ModelError
    from models.retrieval.index import is_index, read_index
    from worker.model_loading import index_folder

    name = bundle.manifest.folder
    folder = index_folder(settings, name)
    build = f"`dicom-node cases build {given} --data FOLDER`"
    if not settings.retrieval.enabled:
        return Check("similar cases", ok=True, found="turned off: retrieval.enabled is false")
    if not is_index(folder):
        found = f"not searched: there is no index of {name} in {folder}"
        return Check("similar cases", ok=None, found=found, remedy=f"{build}, if you want similar cases")
    try:
        index = read_index(folder)
        index.check_origin(bundle.identity)
    except ModelError as error:
        remedy = f"{build}, name another folder in retrieval.index, or set retrieval.enabled to false"
        return Check("similar cases", ok=False, found=f"{folder}: {error}", remedy=remedy)
    found = f"{folder}: {len(index.cases)} cases of {index.name}, every hash verified"
    return Check("similar cases", ok=True, found=f"{found}, built by weights {bundle.weights_sha256[:12]}")


def gate(settings: Settings) -> Iterator[Check]:
    """Check the gate."""
    if not settings.worker.gate:
        remedy = 'set worker.gate to "gate", unless everything that is sent here is a chest film'
        yield Check("gate", ok=None, found="worker.gate is empty: every image is analysed", remedy=remedy)
        return
    try:
        from models.errors import ModelError
        from models.gate.model import Gate

        whole = Gate.load(settings.worker.gate, runtime=settings.worker.runtime)
    except ImportError as error:
        yield _without("gate", error)
        return
    except ModelError as error:
        remedy = "set worker.gate to a shipped name or an undamaged folder, or install the gate again"
        yield Check("gate", ok=False, found=str(error), remedy=remedy)
        return
    yield Check("gate", ok=True, found=f"{whole.identity}, every file verified")
