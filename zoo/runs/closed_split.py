"""A split that nobody may look into: the test split, while settings are chosen."""

from typing import Any

from zoo.errors import UsageError

OPENS = ("gather", "images", "meta_batch", "store")  # what of a store gives its examples


class ClosedSplit:
    """A store of which all can be used but its examples; counts who tries to get them.

    Args:
        store: of images or functions.
    """

    def __init__(self, store: Any) -> None:
        self._closed = store
        self.opened = 0  # how often somebody tried

    def __getattr__(self, name: str) -> Any:
        """What the store has under this name.

        Raises:
            UsageError: it gives examples.
        """
        if name.startswith("_"):  # as copying and pickling ask for it, before there is a store
            raise AttributeError(name)
        if name in OPENS:
            self.opened += 1
            raise UsageError("the test split is closed while settings are chosen")
        return getattr(self._closed, name)

    def to(self, device: Any) -> "ClosedSplit":
        """The same: nothing of it is moved anywhere."""
        return self
