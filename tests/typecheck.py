"""The type checker that the tests put round every function of gradcut (see conftest.py)."""

from inspect import unwrap
from typing import Any

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int where a float is expected


def unchecked(kind: Any, **options: object) -> Any:
    """An instance as a user makes it, without the tests' type checker: what is wrong is said by the class itself."""
    instance = object.__new__(kind)
    unwrap(kind.__init__)(instance, **options)
    return instance
