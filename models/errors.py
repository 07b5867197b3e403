"""Every error that the models raise on purpose.

::

    ModelError                one clear sentence: what, where, what to do
    ├── VocabularyError       a label, code or list of the vocabulary is wrong or unknown
    ├── BundleError           a bundle on disk is incomplete, altered or does not fit its own description
    │   └── UnknownBundle     there is no bundle of that name or path
    ├── EncoderError          published weights on disk are incomplete, altered, unreadable or unsafe
    ├── ForeignModelError     a network of another framework cannot become a bundle
    ├── RecipeError           a training recipe cannot be used
    ├── TrainingError         a training could not go on; what it has done stays
    │   └── Interrupted       the user stopped it
    ├── DatasetError          a folder of films is missing something or cannot be read
    ├── UsageError            a caller asked for something, by a name or path, that does not exist
    ├── PredictionError       a good bundle gave an unusable answer for a study
    ├── RemoteModelError      a remote model gave a wrong answer, which is refused
    │   └── ModelChanged      another version of it answers than was described
    ├── ModelUnavailable      a remote model did not answer in time; the study can be read later
    └── RetrievalError        an index is missing, altered or of other weights, or cannot be searched
"""

from __future__ import annotations


class ModelError(Exception):
    """Base of all; ``str()`` of it may be shown to a user as it is."""


class VocabularyError(ModelError):
    """The vocabulary is wrong, or something names a key that it does not hold."""


class BundleError(ModelError):
    """A bundle cannot be loaded; it is never repaired or guessed."""


class UnknownBundle(BundleError):
    """No bundle has that name, and no folder of that path is one."""


class EncoderError(ModelError):
    """Published weights cannot be used; what could run code is never opened."""


class ForeignModelError(ModelError):
    """A file of another framework is damaged, unsafe, or no network of films and labels."""


class RecipeError(ModelError):
    """A recipe is not one, or asks for something that does not exist."""


class TrainingError(ModelError):
    """A training was stopped, or could not write its checkpoint; the same command resumes it."""


class Interrupted(TrainingError):
    """The training was stopped by the user; the same command resumes it."""


class DatasetError(ModelError):
    """A data set is incomplete or unreadable."""


class UsageError(ModelError):
    """A file, data set, split or kind of text that does not exist was asked for."""


class PredictionError(ModelError):
    """The network gave values that are not numbers, or the study does not suit the bundle."""


class RemoteModelError(ModelError):
    """A remote model gave a wrong answer; the same request would be answered so again."""


class ModelChanged(RemoteModelError):
    """A remote model is another than it was described: it has to be described anew."""


class ModelUnavailable(ModelError):
    """A remote model did not answer in time; the same study can be read later."""


class RetrievalError(ModelError):
    """An index of reference cases cannot be used."""
