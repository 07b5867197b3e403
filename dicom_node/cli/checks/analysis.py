"""Checks of what the analysis needs: the device, the bundle, its index of similar cases, and the gate."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dicom_node.cli.checks.check import Check
from dicom_node.config.mistakes import nearest
from dicom_node.config.settings import Settings
from dicom_node.delivery.routing import fits
from dicom_node.errors import NodeError
from dicom_node.imaging.decoder import Decoder
from dicom_node.runtime.extras import install_command

if TYPE_CHECKING:
    from models.bundles.bundle import Bundle


def device(settings: Settings) -> Iterator[Check]:
    """Check that torch finds the device of the settings."""
    try:
        import torch
    except ImportError:
        yield Check("device", ok=None, found="torch is not installed", remedy=install_command("worker"))
        return
    wanted = settings.worker.device
    threads = settings.worker.threads or len(os.sched_getaffinity(0))
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = f"worker.device {wanted}: " + (
        ", ".join(f"cuda:{n} {torch.cuda.get_device_name(n)}" for n in range(cards))
        if cards and wanted != "cpu"
        else f"cpu, {threads} threads"
    )
    _, _, number = wanted.partition("cuda:")
    if wanted.startswith("cuda") and int(number if number.isdecimal() else 0) >= cards:
        remedy = "set worker.device to auto or cpu, or install the driver and a torch built for it"
        yield Check(
            "device",
            ok=False,
            found=f"worker.device {wanted}: torch finds {cards} CUDA devices",
            remedy=remedy,
        )
    else:
        yield Check("device", ok=True, found=found)


def decoder(settings: Settings) -> Iterator[Check]:
    """Check that films can be decoded, and how well the process that does it is confined."""
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


def bundle(settings: Settings) -> Iterator[Check]:
    """Check the model bundle, and its index of similar cases."""
    try:
        from models.bundles.bundle import find_bundle, read_bundle
        from models.errors import ModelError
    except ImportError as error:
        remedy = install_command("worker")
        yield Check("bundle", ok=None, found=f"cannot be read without {error.name}", remedy=remedy)
        return
    try:
        whole = read_bundle(find_bundle(settings.worker.bundle))
    except ModelError as error:
        remedy = "set worker.bundle to a shipped name or an undamaged folder, or install the bundle again"
        yield Check("bundle", ok=False, found=str(error), remedy=remedy)
        return
    found = f"{whole.manifest.folder}: {len(whole.labels)} labels, every file verified"
    yield Check("bundle", ok=True, found=f"{found}, weights {whole.weights_sha256[:12]}")
    yield _similar_cases(settings, whole)


def named(settings: Settings) -> Iterator[Check]:
    """Check that there are a bundle and a gate of the names that the settings give; reads none of them."""
    from models.bundles.lookup import GATE_MANIFEST, MANIFEST, find_bundle_folder
    from models.errors import ModelError

    for key, name, manifest in (
        ("worker.bundle", settings.worker.bundle, MANIFEST),
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


def rules(settings: Settings) -> Iterator[Check]:
    """Check that the model has the findings that the routing rules name; a rule never matches another."""
    if not any(rule.finding for rule in settings.rules):
        return
    from models.bundles.lookup import label_keys
    from models.errors import ModelError

    bundle = settings.worker.bundle
    try:
        known = label_keys(bundle)
    except ModelError as error:
        yield Check("rules", ok=None, found=f"findings not checked: {error}", remedy="correct worker.bundle")
        return
    unknown = [
        (f"rules.{number}.finding", pattern)
        for number, rule in enumerate(settings.rules)
        for pattern in rule.finding
        if not any(fits(pattern, key) for key in ("", *known))
    ]
    if not unknown:
        yield Check("rules", ok=True, found=f"{bundle} has every finding that they name")
    for key, pattern in unknown:
        found = f"{key}: no label of {bundle} matches {pattern!r}{nearest(pattern, known)}"
        yield Check("rules", ok=False, found=found, remedy="correct it: the rule would never match")


def _similar_cases(settings: Settings, bundle: Bundle) -> Check:
    """Check that the index of the bundle exists, is undamaged, and was built with the bundle's weights."""
    from models.errors import ModelError
    from models.retrieval.index import is_index, read_index

    name = bundle.manifest.folder
    folder = settings.index_of(name)
    build = f"`dicom-node cases build {settings.worker.bundle} --root FOLDER`"
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
    except ImportError as error:
        remedy = install_command("worker")
        yield Check("gate", ok=None, found=f"cannot be read without {error.name}", remedy=remedy)
        return
    try:
        whole = Gate.load(settings.worker.gate)
    except ModelError as error:
        remedy = "set worker.gate to a shipped name or an undamaged folder, or install the gate again"
        yield Check("gate", ok=False, found=str(error), remedy=remedy)
        return
    yield Check("gate", ok=True, found=f"{whole.identity}, every file verified")
