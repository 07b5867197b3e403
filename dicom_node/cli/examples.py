"""Examples of the commands: the line that the help of each ends with."""

from __future__ import annotations

from typing import Any, Final

from dicom_node.cli.renamed_options import accept_old_options

EXAMPLES: Final = {
    "serve": "--config node.toml serve",
    "scp": "--config node.toml scp",
    "worker": "--config node.toml worker",
    "sender": "--config node.toml sender",
    "web": "--config node.toml web",
    "status": "status --studies --limit 20",
    "retry": "retry 1.2.826.0.1.3680043.8.498.1",
    "rebuild": "rebuild --missing",
    "analyze": "analyze films/ --out results/ --csv scores.csv",
    "zero-shot": 'zero-shot film.dcm --bundle biomedclip-0.1.0/ --finding "pleural effusion"',
    "retract": 'retract 1.2.826.0.1.3680043.8.498.1 --reason "read with a wrong model"',
    "replay": "replay 1.2.826.0.1.3680043.8.498.1",
    "validate": "validate results/*/*.dcm",
    "backup": "backup /backups/node --keep 7",
    "purge": "purge --dry-run",
    "pin": "pin 1.2.826.0.1.3680043.8.498.1",
    "unpin": "unpin 1.2.826.0.1.3680043.8.498.1",
    "restore": "restore /backups/node",
    "verify": "verify /backups/node",
    "deidentify": "deidentify films/ --out anonymous/ --retain device --mask 0,0,400,60",
    "export": "export --since 2026-01-01 --until 2026-01-31 --out january/",
    "send": "send films/ --to PACS@pacs.example:104",
    "echo": "echo PACS@pacs.example:104",
    "doctor": "--config node.toml doctor",
    "conformance": "--config node.toml conformance > conformance.md",
    "train": "train models/recipes/openi-findings.toml --data data/openi",
    "evaluate": "evaluate openi-findings --dataset openi --data data/openi --split test --out report/",
    "explain": "explain film.dcm --out maps/ --method gradcam --finding cardiomegaly",
    "dataset": "dataset openi --accept-terms",
    "config show": "--config node.toml config show",
    "config check": "--config node.toml config check",
    "models import": 'models import network.onnx --name our-chest --labels "Cardiomegaly,Pneumothorax"',
    "models calibrate": "models calibrate our-chest-0.1.0 --csv films.csv",
    "models list": "models list",
    "models show": "models show openi-findings",
    "models verify": "models verify",
    "models promote": "--config node.toml models promote our-chest",
    "models export": "models export openi-findings --format onnx --out exported/",
    "models check": "models check https://models.example:8443 --token-file token.txt",
    "models pull": "models pull emilyalsentzer/Bio_ClinicalBERT",
    "rules test": "rules test film.dcm --calling-ae CR_ROOM_1 --finding pneumothorax",
    "users add": "users add alice --role admin",
    "users change": "users change alice --role reader",
    "users remove": "users remove alice",
    "users list": "users list",
    "users token": "users token alice --name archive --days 90",
    "users tokens": "users tokens alice",
    "users revoke": "users revoke alice archive",
    "audit list": "audit list --limit 50",
    "audit verify": "audit verify",
    "audit purge": "audit purge --older-than 3650",
    "audit export": "audit export audit.jsonl",
    "cases build": "cases build openi-groups --data data/openi --out cases/openi",
    "cases add": "cases add cases/openi --data data/more --split train",
    "cases verify": "cases verify cases/openi",
    "cases query": "cases query cases/openi --film film.dcm -k 5",
    "cases learn": "cases learn --data data/openi --out reader.safetensors",
    "cases evaluate": "cases evaluate openi-groups --data data/openi --queries test",
}
"""Words behind ``dicom-node``, by the words of the command."""


def give_examples(name: str, command: Any) -> Any:
    """Return a command, or a group with its commands, whose help ends with an example.

    Parameters
    ----------
    name
        Words of the command.
    command
        Command of Typer.
    """
    for inner, each in getattr(command, "commands", {}).items():
        give_examples(f"{name} {inner}", each)
    accept_old_options(name, command)
    if example := EXAMPLES.get(name):
        command.epilog = f"Example: dicom-node {example}"
    return command
