"""Brings the files of an encoder from the Hugging Face hub, or says what to bring by hand."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node.errors import NodeError

if TYPE_CHECKING:
    from models.pretrained.encoders import Encoder


def pull(name: str, cache: Path, revision: str | None = None) -> Encoder:
    """Download what an encoder needs and keep it in the cache with its hashes.

    Parameters
    ----------
    name
        On the hub, such as ``emilyalsentzer/Bio_ClinicalBERT``.
    cache
        Folder of the encoders.
    revision
        Branch, tag or commit; the main branch when absent.

    Raises
    ------
    NodeError
        If the hub cannot be reached, or does not give the model.
    models.errors.EncoderError
        If what the hub has is no encoder that can be read.
    """
    import huggingface_hub as hub
    from huggingface_hub import errors
    from huggingface_hub.utils.tqdm import disable_progress_bars

    from models.pretrained.encoders import adopt, choose_files, files_to_bring, folder_of

    folder = folder_of(name, cache)
    by_hand = (
        f"bring {files_to_bring(name)} of https://huggingface.co/{name} in a folder DIR and give the same "
        f"command with --from DIR, which keeps them in {folder}"
    )
    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        about = hub.HfApi().model_info(name, revision=revision)
        files = choose_files([entry.rfilename for entry in about.siblings or ()], f"{name} on the hub")
        with tempfile.TemporaryDirectory(prefix="dicom-node-") as draft:
            hub.snapshot_download(name, revision=about.sha, local_dir=draft, allow_patterns=list(files))
            return adopt(Path(draft), name, cache)
    except errors.GatedRepoError as error:
        raise NodeError(
            f"the hub gives {name} only to those who accepted its terms there: do so and run `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise NodeError(f"{name} has no revision {revision!r} on the hub") from error
    except errors.RepositoryNotFoundError as error:
        raise NodeError(f"the hub has no public model {name}: correct the name, or {by_hand}") from error
    # HTTPError is that of the client below the hub's library, whose name changes between versions.
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]
        raise NodeError(f"the Hugging Face hub cannot be reached: {by_hand}") from error
