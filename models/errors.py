"""Every error that the models raise on purpose.

::

    ModelError                one clear sentence: what, where, what to do
    ├── VocabularyError       a label, code or list of the vocabulary is wrong or unknown
    ├── BundleError           a bundle on disk is incomplete, altered or does not fit its own description
    ├── RecipeError           a training recipe cannot be used
    ├── DatasetError          a folder of films is missing something or cannot be read
    ├── UsageError            a caller asked for something by a name that does not exist
    └── PredictionError       a good bundle gave an unusable answer for a study
"""

from __future__ import annotations


class ModelError(Exception):
    """Base of all; ``str()`` of it may be shown to a user as it is."""


class VocabularyError(ModelError):
    """The vocabulary is wrong, or something names a key that it does not hold."""


class BundleError(ModelError):
    """A bundle cannot be loaded; it is never repaired or guessed."""


class RecipeError(ModelError):
    """A recipe is not one, or asks for something that does not exist."""


class DatasetError(ModelError):
    """A data set is incomplete or unreadable."""


class UsageError(ModelError):
    """A data set, a split or a kind of text that does not exist was asked for."""


class PredictionError(ModelError):
    """The network gave values that are not numbers, or the study does not suit the bundle."""
