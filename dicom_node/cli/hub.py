"""Download of encoders from the Hugging Face hub, with instructions for the case that it fails."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node.errors import NodeError

if TYPE_CHECKING:
    from models.pretrained.encoders import Encoder


def pull(name: str, cache: Path, revision: str | None = None) -> Encoder:
    """Download the files of an encoder to the cache, with their hashes.

    Parameters
    ----------
    name
        Name on the hub, such as ``emilyalsentzer/Bio_ClinicalBERT``.
    cache
        Folder of the downloaded encoders.
    revision
        Branch, tag or commit; the main branch when None.

    Raises
    ------
    NodeError
        If the hub cannot be reached, or refuses the model.
    models.errors.EncoderError
        If the model is no encoder that can be read.
    """
    import huggingface_hub as hub
    from huggingface_hub import errors
    from huggingface_hub.utils.tqdm import disable_progress_bars

    from models.pretrained.encoder_cache import describe_required_files, encoder_folder
    from models.pretrained.encoders import add_to_cache, choose_files

    folder = encoder_folder(name, cache)
    by_hand = (
        f"copy {describe_required_files(name)} from https://huggingface.co/{name} into a folder DIR and give "
        f"the same command with --from DIR, which saves them in {folder}"
    )
    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        about = hub.HfApi().model_info(name, revision=revision)
        files = choose_files([entry.rfilename for entry in about.siblings or ()], f"{name} on the hub")
        with tempfile.TemporaryDirectory(prefix="dicom-node-") as draft:
            hub.snapshot_download(name, revision=about.sha, local_dir=draft, allow_patterns=list(files))
            return add_to_cache(Path(draft), name, cache)
    except errors.GatedRepoError as error:
        raise NodeError(
            f"the hub gives {name} only to users who accepted its terms there: do so and run `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise NodeError(f"{name} has no revision {revision!r} on the hub") from error
    except errors.RepositoryNotFoundError as error:
        raise NodeError(f"the hub has no public model {name}: correct the name, or {by_hand}") from error
    # HTTPError comes from the HTTP client below the hub's library, which changes between versions.
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]
        raise NodeError(f"the Hugging Face hub cannot be reached: {by_hand}") from error
