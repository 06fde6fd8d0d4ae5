"""The exception hierarchy.

    TransectError             a user-facing failure: one sentence, and an exit code
    ├── SettingsError         an environment variable is unknown, missing or has a bad value
    ├── InputError            a file, folder or option of the user cannot be used
    │   ├── ImageError        one image cannot be read (a listed failure in batch work)
    │   │   └── ImageTooLargeError     it has more pixels than the limit
    │   ├── DatasetError      a data.yaml or a file that it refers to
    │   └── SurveyError       a survey folder or its positions
    ├── PackageError          a model package that fails verification or its probe inference
    ├── DeviceLostError       the GPU is unusable for the rest of the process
    ├── StoppedError          a search was stopped (client disconnected, deadline passed)
    ├── StoreError            an object store does not answer, or cannot be used
    ├── RegistryError         MLflow failed or rejected a request
    │   ├── NotRegisteredError     MLflow has no such model, version or alias
    │   └── UnreachableError       MLflow does not respond, or with a transient error
    └── PromotionRefusedError      the gate refused a candidate

Every message says what is wrong, where, and what to do. The command line prints it without a
traceback and exits with `exit_code`; the service converts it to problem+json.
"""


class TransectError(Exception):
    """A failure that the user can fix."""

    exit_code = 1


class SettingsError(TransectError):
    """An environment variable is unknown, missing or has a bad value."""

    exit_code = 2


class InputError(TransectError):
    """A file, folder or option of the user cannot be used."""

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
    """A GPU that this process can no longer use; a new process may."""


class StoppedError(TransectError):
    """A search that was stopped before it was finished."""


class StoreError(TransectError):
    """An object store that does not answer, or that cannot be used."""

    exit_code = 4


class RegistryError(TransectError):
    """MLflow is unreachable, rejected a request, or lacks the requested object."""

    exit_code = 4


class NotRegisteredError(RegistryError):
    """MLflow has no such model, version or alias."""


class UnreachableError(RegistryError):
    """MLflow does not respond, or with a transient error: a retry may succeed."""


class PromotionRefusedError(TransectError):
    """The promotion gate refused a candidate."""

    exit_code = 5
