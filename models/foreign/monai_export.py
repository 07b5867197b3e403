"""Export of a bundle as a MONAI bundle, by the MONAI Bundle Specification.

::

    <name>-<version>/
      configs/metadata.json     what the network reads and gives
      configs/inference.json    preprocessing and inference of a folder of pictures
      models/model.pt           weights, a state dict
      models/model.ts           network and weights as TorchScript
      scripts/                  modules of the preprocessing, as they are in this project
      docs/README.md, LICENSE

MONAI has no transforms that resize and window exactly as the bundles do, so their own go along.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from importlib import metadata, resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from models.architectures.interface import Batch, Network
from models.bundles.bundle import Bundle
from models.errors import UsageError
from models.foreign.exported_bundle import RESEARCH_USE, describe_bundle
from models.labels.calibration import LabelCalibration

_SCHEMA: Final = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
)
_PACKAGE: Final = "scripts"
_MODULES: Final = ("film_transforms", "monai_loading", "resampling", "transforms", "types")
"""Modules of :mod:`models.processing` that the transforms of films need."""
_TOLERANCE: Final = 1e-5


class _Scores(nn.Module):
    """Network of a bundle, from images to scores."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(Batch(images)).logits.sigmoid()  # type: ignore[no-any-return]


def export_monai(bundle: Bundle, folder: Path) -> Path:
    """Write a bundle as a MONAI bundle; the folder appears whole or not at all.

    Returns
    -------
    Path
        The folder, named like the bundle.

    Raises
    ------
    UsageError
        If the network reads text, was imported as an ONNX graph or cannot be traced, or the folder exists.
    """
    manifest = bundle.manifest
    path = folder / manifest.folder
    if manifest.graph_alone:
        raise UsageError(
            f"bundle {manifest.folder} is an ONNX graph, which is no network of torch: a MONAI bundle cannot "
            "be made of it; use --format onnx"
        )
    if manifest.text != "none":
        raise UsageError(
            f"bundle {manifest.folder} reads text beside the films: a MONAI bundle is made of networks that "
            "read films alone"
        )
    if (manifest.preprocessing.fit, manifest.preprocessing.window) != ("squash", "percentiles"):
        raise UsageError(
            f"bundle {manifest.folder} brings films to the square in a way that is not exported to MONAI"
        )
    if path.exists():
        raise UsageError(f"{path} exists: choose another --out")
    scripted = _script(bundle)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{path.name}-") as draft:
        made = Path(draft)
        for name, text in _texts(bundle).items():
            (made / name).parent.mkdir(exist_ok=True)
            (made / name).write_text(text, encoding="utf-8")
        (made / "models").mkdir()
        with _quiet():
            torch.jit.save(scripted, str(made / "models" / "model.ts"))
        torch.save(scripted.state_dict(), made / "models" / "model.pt")
        shutil.copytree(made, path)
    return path


def _script(bundle: Bundle) -> Any:
    """Trace the network, and compare the trace with it for other numbers of films."""
    preprocessing = bundle.manifest.preprocessing
    network = _Scores(bundle.network().requires_grad_(requires_grad=False)).eval()
    generator = torch.Generator().manual_seed(251)
    shape = (3, preprocessing.channels, preprocessing.size, preprocessing.size)
    images = torch.randn(shape, generator=generator)
    try:
        with torch.inference_mode(mode=False), torch.no_grad(), _quiet():
            scripted: Any = torch.jit.trace(network, images[:2], check_trace=False)
            apart = max(float((scripted(part) - network(part)).abs().max()) for part in (images, images[:1]))
    except RuntimeError as error:
        raise UsageError(_untraced(bundle, str(error).partition("\n")[0])) from error
    if not apart <= _TOLERANCE:
        raise UsageError(_untraced(bundle, f"its scores differ by {apart:.6f}"))
    return scripted


def _untraced(bundle: Bundle, reason: str) -> str:
    manifest = bundle.manifest
    return (
        f"bundle {manifest.folder} is of the family {manifest.architecture}, which TorchScript cannot hold "
        f"as it is: {reason}"
    )


def _texts(bundle: Bundle) -> dict[str, str]:
    """Text files by their names."""
    files = {f"{_PACKAGE}/__init__.py": '"""Preprocessing of films, as the bundle was trained with it."""\n'}
    for name in _MODULES:
        source = resources.files("models.processing").joinpath(f"{name}.py").read_text(encoding="utf-8")
        files[f"{_PACKAGE}/{name}.py"] = source.replace("models.processing.", f"{_PACKAGE}.")
    return files | {
        "configs/metadata.json": _as_json(_metadata(bundle)),
        "configs/inference.json": _as_json(_inference(bundle)),
        "docs/README.md": _readme(bundle),
        "LICENSE": _licence(bundle),
    }


def _metadata(bundle: Bundle) -> dict[str, Any]:
    manifest, size = bundle.manifest, bundle.manifest.preprocessing.size
    version = manifest.version
    return {
        "schema": _SCHEMA,
        "version": version,
        "changelog": {version: f"exported by dicom-node {metadata.version('dicom-node')}"},
        "monai_version": metadata.version("monai"),
        "pytorch_version": torch.__version__.partition("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {"pillow": metadata.version("pillow")},
        "name": manifest.name,
        "task": "Scores of findings on chest radiographs",
        "description": f"{manifest.summary}. {RESEARCH_USE}",
        "intended_use": RESEARCH_USE,
        "authors": "The authors of the bundle (docs/README.md)",
        "copyright": "Copyright of the authors of the bundle",
        "data_type": "chest radiographs, lungs dark",
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "modality": "CXR",
                    "num_channels": manifest.preprocessing.channels,
                    "spatial_shape": [size, size],
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": False,
                    "channel_def": {
                        str(channel): "grey values, windowed and normalised"
                        for channel in range(manifest.preprocessing.channels)
                    },
                }
            },
            "outputs": {
                "pred": {
                    "type": "probabilities",
                    "format": "classes",
                    "num_channels": len(bundle.labels),
                    "spatial_shape": [1, len(bundle.labels)],
                    "dtype": "float32",
                    "value_range": [0, 1],
                    "is_patch_data": False,
                    "channel_def": {str(place): label.name for place, label in enumerate(bundle.labels)},
                }
            },
        },
        "bundle": {
            entry: said if entry not in ("labels", "preprocessing", "calibration") else json.loads(said)
            for entry, said in describe_bundle(bundle).items()
        },
    }


def _inference(bundle: Bundle) -> dict[str, Any]:
    preprocessing = bundle.manifest.preprocessing

    def own(transform: str, **arguments: Any) -> dict[str, Any]:
        target = f"{_PACKAGE}.film_transforms.{transform}"
        return {"_target_": "Lambdad", "keys": "image", "func": {"_target_": target, **arguments}}

    repeat = {"_target_": "RepeatChanneld", "keys": "image", "repeats": preprocessing.channels}
    return {
        "imports": ["$import json", "$import pathlib", "$import sys", "$import torch"],
        "bundle_root": ".",
        "scripts": "$sys.path.insert(0, @bundle_root)",
        "dataset_dir": "$@bundle_root + '/films'",
        "output_file": "$@bundle_root + '/scores.json'",
        "white": 255,
        "keys": [label.key for label in bundle.labels],
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "datalist": "$[{'image': str(each)} for each in sorted(pathlib.Path(@dataset_dir).glob('*.png'))]",
        "preprocessing": {
            "_target_": "Compose",
            "_requires_": "@scripts",
            "transforms": [
                {
                    "_target_": "LoadImaged",
                    "keys": "image",
                    "reader": "PILReader",
                    "reverse_indexing": False,
                    "image_only": True,
                },
                {"_target_": "EnsureChannelFirstd", "keys": "image", "channel_dim": "no_channel"},
                {
                    "_target_": "ScaleIntensityRanged",
                    "keys": "image",
                    "a_min": 0,
                    "a_max": "@white",
                    "b_min": 0,
                    "b_max": 1,
                },
                own("SquareResize", side=preprocessing.grid),
                own("PercentileWindow", low=preprocessing.low, high=preprocessing.high),
                own("AntialiasedResize", side=preprocessing.size),
                {
                    "_target_": "NormalizeIntensityd",
                    "keys": "image",
                    "subtrahend": preprocessing.mean,
                    "divisor": preprocessing.std,
                },
                *([repeat] if preprocessing.channels > 1 else []),
            ],
        },
        "dataset": {"_target_": "Dataset", "data": "@datalist", "transform": "@preprocessing"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 4, "num_workers": 0},
        "inferer": {"_target_": "SimpleInferer"},
        "network": "$torch.jit.load(@bundle_root + '/models/model.ts', map_location=@device).eval()",
        "evaluation": (
            "$[row for batch in @dataloader "
            "for row in @inferer(batch['image'].to(@device), @network).tolist()]"
        ),
        "scores": ("${each['image']: dict(zip(@keys, row)) for each, row in zip(@datalist, @evaluation)}"),
        "initialize": ["$torch.set_grad_enabled(False)"],
        "run": ["$pathlib.Path(@output_file).write_text(json.dumps(@scores, indent=2))"],
    }


def _readme(bundle: Bundle) -> str:
    manifest = bundle.manifest
    rows = "\n".join(
        f"| {place} | {label.key} | {label.name} | {label.code.value} {label.code.scheme} | "
        f"{_threshold(bundle.calibration.labels[label.key])} |"
        for place, label in enumerate(bundle.labels)
    )
    return (
        f"# {manifest.name} {manifest.version}\n\n"
        f"**{RESEARCH_USE}**\n\n"
        f"{manifest.summary}. Exported from a bundle of dicom-node with the weights "
        f"`{bundle.weights_sha256}`.\n\n"
        "## Use\n\n"
        "Pictures of whole films, 8-bit grey with dark lungs, lie in `films/` as PNG files. "
        "From this folder:\n\n"
        "```\n"
        "python -c \"from monai.bundle import run; run(config_file='configs/inference.json')\"\n"
        "```\n\n"
        "writes `scores.json`. For 16-bit pictures set `white` to 65535. A score is an uncalibrated output "
        "in [0, 1]; the curve that makes it a probability, and the threshold on it, stand in "
        "`configs/metadata.json` under `bundle`.\n\n"
        f"## Outputs\n\n| output | label | name | code | threshold |\n|---|---|---|---|---|\n{rows}\n"
    )


def _threshold(label: LabelCalibration) -> str:
    scale = "score" if label.method == "none" else "probability"
    return f"{label.threshold:.3f} of the {scale}"


def _licence(bundle: Bundle) -> str:
    return (
        "The modules in scripts/ are part of dicom-node, by the dicom-node developers, and licensed\n"
        "under the Apache License, Version 2.0; you may obtain a copy of it at\n"
        "https://www.apache.org/licenses/LICENSE-2.0\n\n"
        f"The weights in models/ are those of the bundle {bundle.manifest.folder}; its authors set their\n"
        "terms.\n\n"
        'Everything is distributed on an "AS IS" basis, without warranties or conditions of any kind.\n'
        f"{RESEARCH_USE}\n"
    )


def _as_json(table: dict[str, Any]) -> str:
    return json.dumps(table, indent=4, ensure_ascii=False) + "\n"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep warnings of the tracer, which speak of shapes that are compared afterwards, from the terminal."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
