"""Closes the test split while settings are chosen, so that nobody looks into it."""

from typing import Any

from zoo.errors import UsageError

OPENS = ("gather", "images", "meta_batch", "store")  # attributes of a store that give examples


class ClosedSplit:
    """A store whose examples cannot be used; everything else of it can.

    `opened` counts how often somebody tried to use them.

    Args:
        store: of images or functions.
    """

    def __init__(self, store: Any) -> None:
        self._closed = store
        self.opened = 0

    def __getattr__(self, name: str) -> Any:
        """An attribute of the store.

        Raises:
            UsageError: it would give examples.
        """
        if name.startswith("_"):  # copying and pickling ask for such names before there is a store
            raise AttributeError(name)
        if name in OPENS:
            self.opened += 1
            raise UsageError("the test split is closed while settings are chosen")
        return getattr(self._closed, name)

    def to(self, device: Any) -> "ClosedSplit":
        """Moves nothing, and returns this store."""
        return self
