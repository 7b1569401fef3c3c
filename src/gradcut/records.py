"""What a result depends on, as JSON values: what is written beside results, and compared before a run goes on."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import inspect
import json
import platform
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from gradcut.errors import GradcutError

_PLAIN = (type(None), bool, int, float, complex, str, bytes)

#: Names and sentences for people, on which nothing depends.
_WORDS = ("name", "summary")


def described(step: object) -> str:
    """A step with its options, the same in every process and on every machine.

    That is its repr where it is one of gradcut's. A step of a user's own is called by its module and name, with a
    digest of its source, for what it does stands there.

    Raises:
        GradcutError: the source of a function or a class cannot be read, or holds on to a value that is not plain.
    """
    if isinstance(step, _PLAIN):
        return repr(step)
    if isinstance(step, list | tuple):
        inner = ", ".join(map(described, step))
        return f"[{inner}]" if isinstance(step, list) else f"({inner}{',' * (len(step) == 1)})"
    if isinstance(step, Mapping):
        return "{" + ", ".join(f"{described(key)}: {described(value)}" for key, value in step.items()) + "}"
    if isinstance(step, functools.partial):
        return f"partial({described(step.func)}, {described(step.args)}, {described(dict(step.keywords))})"
    if inspect.ismethod(step):
        return f"{described(step.__self__)}.{step.__name__}"
    if inspect.isroutine(step):
        return _function(step)
    if hasattr(step, "tobytes") and hasattr(step, "dtype"):  # an array
        return f"array({step.dtype}, {step.shape}, {_digest(step.tobytes())})"  # type: ignore[attr-defined]
    if is_dataclass(step):
        options = {field.name: getattr(step, field.name) for field in fields(step) if field.repr}
    else:
        options = dict(getattr(step, "__dict__", {}))
    inner = ", ".join(f"{name}={described(value)}" for name, value in options.items())
    return f"{_class(type(step))}({inner})"


def _class(kind: type) -> str:
    if kind.__module__.split(".")[0] == "gradcut":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}#{_source(kind)}"


def _function(function: Any) -> str:
    name = f"{function.__module__}.{function.__qualname__}"
    if not inspect.isfunction(function):
        return name  # a builtin
    function = inspect.unwrap(function)
    values = [*(cell.cell_contents for cell in function.__closure__ or ()), *(function.__defaults__ or ())]
    values += (function.__kwdefaults__ or {}).values()
    bound = f"({', '.join(map(described, values))})" if values else ""
    return f"{name}#{_source(function)}{bound}"


def _source(code: Any) -> str:
    try:
        return _digest(inspect.getsource(code).encode())
    except (OSError, TypeError):
        raise GradcutError(
            f"recipe: the source of {code.__module__}.{code.__qualname__} cannot be read, so that no other "
            "process could tell whether it does the same; put it into a file"
        ) from None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def fingerprint(record: Mapping[str, Any]) -> str:
    """SHA-256 of what a record says, names and sentences left out, in hexadecimal digits."""
    return hashlib.sha256(json.dumps(_decisive(record), sort_keys=True).encode()).hexdigest()


def _decisive(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _decisive(inner) for key, inner in value.items() if key not in _WORDS}
    return [_decisive(inner) for inner in value] if isinstance(value, list | tuple) else value


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What two records do not have in common, names and sentences aside, each in a few words for a person."""
    differences = []
    for key in {**before, **now}:
        old, new = before.get(key), now.get(key)
        if _decisive(old) == _decisive(new):
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            if old.get("name") != new.get("name"):
                differences.append(f"{key} {old.get('name')}, now {new.get('name')}")
            else:
                inner = [name for name in differing(old, new) if not name.startswith("sha256 ")]
                differences += [f"{key}'s {name}" for name in inner] or [f"another {key} of the same name"]
        else:
            differences.append(f"{key} {_short(old)}, now {_short(new)}")
    return differences


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def versions() -> dict[str, str]:
    """Of Python and the packages whose versions may change the last digits of a result."""
    packages = ("gradcut", "torch", "timm", "numpy", "pillow")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}
