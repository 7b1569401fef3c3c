"""The type checker that the tests put round every function and class of gradcut that names an array (see conftest.py).

What else an annotation says is mypy's to check: a check of every call would take most of the tests' time.
"""

from collections.abc import Callable
from inspect import isclass, unwrap
from typing import Any, get_args, get_type_hints

import jaxtyping
from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int where a float is expected
_jaxtyped = jaxtyping.jaxtyped


def jaxtyped(*, typechecker: Any) -> Callable[[Any], Any]:
    """In the place of jaxtyping's own decorator, which it leaves out where no array is named."""

    def decorate(checked: Any) -> Any:
        function = checked.fget if isinstance(checked, property) else getattr(checked, "__func__", checked)
        return _jaxtyped(checked, typechecker=typechecker) if _names_an_array(function) else checked

    return decorate


def _names_an_array(function: Any) -> bool:
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError):  # a name of type checking alone, or of a function's own
        return True
    return any(map(_is_of_arrays, hints.values()))


def _is_of_arrays(hint: Any) -> bool:
    if isclass(hint) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(map(_is_of_arrays, get_args(hint)))


def unchecked(kind: Any, **options: object) -> Any:
    """An instance as a user makes it, without the tests' type checker: what is wrong is said by the class itself."""
    instance = object.__new__(kind)
    unwrap(kind.__init__)(instance, **options)
    return instance
