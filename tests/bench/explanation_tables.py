"""Measure the tables of docs/explanations.md again and write them into it, each under its command.

    .venv/bin/python tests/bench/explanation_tables.py --data FOLDER [--maps 30] [--quick]

FOLDER holds ``openi/`` and ``nih/``. The text between the two marks of the page is replaced, part by part.
``--quick`` measures Grad-CAM alone, in a minute or two; the other methods run the network some two hundred
times per map.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from models.bundles.predictor import Predictor
from models.data.readers import read_dataset
from models.evaluation.explanations import explanations_markdown, measure_explanations
from models.explain.methods import available_methods
from models.labels.vocabulary import load_vocabulary

PAGE = Path(__file__).parents[2] / "docs" / "explanations.md"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"
#: Bundle and data set: the default bundle on its own films, and what has boxes on those.
RUNS = (("nih-findings", "nih"), ("openi-findings", "nih"), ("openi-findings", "openi"))


def main() -> None:
    """Measure each part and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--maps", type=int, default=30)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    parts: list[str] = []
    for bundle, name in RUNS:
        predictor = Predictor.load(bundle)
        methods = ["gradcam"] if asked.quick else list(available_methods(predictor))
        root = asked.data / name
        figures = measure_explanations(
            predictor,
            read_dataset(name, root, load_vocabulary()),
            root,
            split="test",
            methods=methods,
            maps=asked.maps,
            progress=lambda done, total, what=f"{bundle} on {name}": print(
                f"\r{what}: {done} of {total}", end="", flush=True
            ),
        )
        command = (
            f"dicom-node evaluate {bundle} --explanations --dataset {name} --data FOLDER/{name} --maps "
            f"{asked.maps}" + "".join(f" --method {method}" for method in methods)
        )
        parts.append(f"```\n{command}\n```\n\n{explanations_markdown(figures)}")
        page = PAGE.read_text(encoding="utf-8")
        before, after = page.split(BEGIN)[0], page.split(END)[-1]
        PAGE.write_text(before + BEGIN + "\n" + "\n".join(parts) + "\n" + END + after, encoding="utf-8")
        print()


if __name__ == "__main__":
    main()
