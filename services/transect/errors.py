"""What can go wrong, as one tree.

    TransectError             a user-facing failure: one sentence, and an exit code
    ├── SettingsError         an environment variable is unknown, missing or has a bad value
    ├── InputError            something the user named cannot be used (file, folder, option)
    │   ├── ImageError        one image cannot be read (a listed failure where the rest can go on)
    │   │   └── ImageTooLargeError     it has more pixels than the limit
    │   ├── DatasetError      a data.yaml or what it points to
    │   └── SurveyError       a survey folder or its positions
    ├── PackageError          a model package whose hash, schema or probe inference does not hold
    ├── DeviceLostError       the GPU failed in a way that lasts as long as the process
    ├── StoppedError          a search was told to stop (its client left, its deadline passed)
    ├── RegistryError         MLflow said no: unreachable, wrong key
    │   ├── NotRegisteredError     MLflow answered, and has no such model, version or alias
    │   └── UnreachableError       MLflow is away now: it does not answer, or answers that it is in trouble
    └── PromotionRefusedError      the gate did not let a candidate through

Every message says what is wrong, where, and what to do. The command line prints it without a
traceback and exits with `exit_code`; the service turns it into problem+json.
"""


class TransectError(Exception):
    """A failure that the user can act on."""

    exit_code = 1


class SettingsError(TransectError):
    """An environment variable is unknown, missing or has a bad value."""

    exit_code = 2


class InputError(TransectError):
    """Something the user named cannot be used."""

    exit_code = 2


class ImageError(InputError):
    """One image cannot be read."""


class ImageTooLargeError(ImageError):
    """One image has more pixels than the limit."""


class DatasetError(InputError):
    """A training set that cannot be trained on."""


class SurveyError(InputError):
    """A survey folder that cannot be counted."""


class PackageError(TransectError):
    """A model package that must not be used."""

    exit_code = 3


class DeviceLostError(TransectError):
    """A GPU that this process cannot use any more; the next process may."""


class StoppedError(TransectError):
    """A search that was told to stop before it was done."""


class RegistryError(TransectError):
    """MLflow cannot be reached, refused us, or does not hold what was asked for."""

    exit_code = 4


class NotRegisteredError(RegistryError):
    """MLflow answered that it has no such model, version or alias."""


class UnreachableError(RegistryError):
    """MLflow does not answer, or answers that it is in trouble: trying again later may work."""


class PromotionRefusedError(TransectError):
    """The promotion gate refused a candidate."""

    exit_code = 5
