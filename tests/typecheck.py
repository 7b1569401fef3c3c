"""The type checker that the tests put round every function and class of gradcut that names an array (see conftest.py).

What else an annotation says is mypy's to check: a check of every call would take most of the tests' time.
"""

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable
from functools import partial
from inspect import isclass, unwrap
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints

import jaxtyping
import pytest
from beartype import BeartypeConf, beartype
from jaxtyping import _import_hook as hook

import gradcut

_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int where a float is expected
_jaxtyped = jaxtyping.jaxtyped
_checks: dict[tuple[object, ...], Any] = {}
_of_arrays: dict[tuple[object, ...], bool] = {}


def check(signature: Any) -> Any:
    """The type checker: of the functions that jaxtyping makes, which only have another's signature.

    A function inside of a function is defined anew in each call of that, and its check would be compiled anew.
    """
    key = (*_definition(signature), str(signature.__annotations__))  # in words: each time they are made anew, too
    if key not in _checks:
        _checks[key] = _beartype(signature)
    return _checks[key]


def _definition(function: Any) -> tuple[object, ...]:
    """The same for what one place in the source defines."""
    return function.__module__, function.__qualname__, getattr(function, "__code__", function)


def load() -> None:
    """Import every module of gradcut, checked, and let torch use one thread."""
    _kernels("gradcut.masks.ibfs")
    _kernels("gradcut.masks.bands")
    with pytest.MonkeyPatch.context() as patch, hook.install_import_hook("gradcut", "typecheck.check"):
        patch.setattr(jaxtyping, "jaxtyped", jaxtyped)
        patch.setattr(hook._JaxtypingLoader, "exec_module", _run)
        for module in pkgutil.walk_packages(gradcut.__path__, "gradcut."):
            if module.name != "gradcut.__main__":
                importlib.import_module(module.name)
    importlib.import_module("torch").set_num_threads(1)


def _kernels(name: str) -> None:
    """Import a module of kernels by itself, before the hook: a wrapped function is none that numba can compile."""
    path = Path(gradcut.__file__).parent.joinpath(*name.split(".")[1:]).with_suffix(".py")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def _run(loader: hook._JaxtypingLoader, module: ModuleType) -> None:
    """In the place of jaxtyping's own, whose names for compiled files hold for all that the module imports.

    Under these names no library is compiled yet: each process would compile thousands of files.
    """
    names = partial(hook._optimized_cache_from_source, loader._typechecker.get_hash())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("importlib._bootstrap_external.cache_from_source", names)
        code = loader.get_code(module.__name__)
    exec(code, vars(module))


def jaxtyped(*, typechecker: Any) -> Callable[[Any], Any]:
    """In the place of jaxtyping's own decorator, which it leaves out where no array is named."""

    def decorate(checked: Any) -> Any:
        function = checked.fget if isinstance(checked, property) else getattr(checked, "__func__", checked)
        key = _definition(function)
        if key not in _of_arrays:
            _of_arrays[key] = _names_an_array(function)
        return _jaxtyped(checked, typechecker=typechecker) if _of_arrays[key] else checked

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
