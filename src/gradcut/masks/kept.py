"""What was made lately, to be found again by content: a stroke or a slider changes few of a photograph's masks."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
from jaxtyping import Shaped


def digest(array: Shaped[np.ndarray, "*shape"]) -> bytes:
    """Tells arrays of different shape, type or content from each other."""
    kind = f"{array.dtype.str}{array.shape}".encode()
    content = hashlib.blake2b(kind, digest_size=16)
    content.update(np.ascontiguousarray(array).data)
    return content.digest()


class Kept:
    """A few values by key, the last used ones; for any number of threads.

    Args:
        most: how many.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._values: OrderedDict[tuple[Hashable, ...], Any] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, key: tuple[Hashable, ...]) -> Any:
        """The value, or None."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: tuple[Hashable, ...], value: Any) -> Any:
        """The value, which is kept from now on."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self.most:
                self._values.popitem(last=False)
        return value

    def get(self, key: tuple[Hashable, ...], make: Callable[[], Any]) -> Any:
        """The value, made where there is none."""
        value = self.find(key)
        return self.put(key, make()) if value is None else value

    def alike(self, start: tuple[Hashable, ...]) -> list[Any]:
        """The values whose keys begin so, the last used ones first."""
        with self._lock:
            values = [value for key, value in self._values.items() if key[: len(start)] == start]
        return values[::-1]


#: Of masks of a million pixels 2 MB each.
KEPT = Kept(24)
