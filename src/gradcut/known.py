"""What was found out about a model, remembered as long as it lives."""

from __future__ import annotations

from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from torch import nn

T = TypeVar("T")


class Known(Generic[T]):
    """Facts by model and key. Several threads may ask at once, and no model is kept alive."""

    def __init__(self) -> None:
        self._facts: WeakKeyDictionary[nn.Module, dict[Hashable, T]] = WeakKeyDictionary()
        self._lock = Lock()

    def get(self, model: nn.Module, key: Hashable) -> T | None:
        with self._lock:
            return self._facts.get(model, {}).get(key)

    def put(self, model: nn.Module, key: Hashable, fact: T) -> None:
        with self._lock:
            self._facts.setdefault(model, {})[key] = fact

    def forget(self, model: nn.Module, key: Hashable) -> None:
        """Nothing happens where another thread was first."""
        with self._lock:
            self._facts.get(model, {}).pop(key, None)
