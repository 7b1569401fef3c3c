"""What a result depends on, as JSON values: what is written beside results, and compared before a run goes on."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import inspect
import json
import platform
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from itertools import takewhile
from typing import Any

from gradcut.errors import GradcutError

_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_CONTAINERS = (list, tuple, set, frozenset, dict)

#: Names and sentences for people, on which nothing depends.
_WORDS = ("name", "summary")


def described(step: object) -> str:
    """A step with its options, the same in every process and on every machine.

    That is its repr where it is one of gradcut's. A step of a user's own is called by its module and name, with a
    digest of its source and of what it holds on to: options, attributes, defaults, and variables of the functions
    round it.

    Raises:
        GradcutError: the source of a function or a class cannot be read, or a value that it holds cannot be compared.
    """
    try:
        return _described(step)
    except RecursionError:
        raise GradcutError(f"recipe: {type(step).__name__} holds on to itself, so that it cannot be recorded") from None


def _described(step: object) -> str:
    if isinstance(step, _PLAIN):
        return repr(step)
    if isinstance(step, functools.partial):
        return f"partial({_described(step.func)}, {_described(step.args)}, {_described(step.keywords)})"
    if inspect.isroutine(step):
        owner = getattr(step, "__self__", None)
        bound = owner is not None and not inspect.ismodule(owner)
        return f"{_described(owner)}.{step.__name__}" if bound else _function(step)
    if inspect.isclass(step):
        return _class(step)
    if hasattr(step, "detach") and hasattr(step, "numpy"):  # a tensor, without importing torch for it
        step = step.detach().cpu().numpy()
    if hasattr(step, "tobytes") and hasattr(step, "dtype"):
        return f"array({step.dtype}, {step.shape}, {_digest(step.tobytes())})"  # type: ignore[attr-defined]
    kind = "" if type(step) in _CONTAINERS else _class(type(step))
    if isinstance(step, list | tuple):
        inner = ", ".join(map(_described, step))
        return f"{kind}[{inner}]" if isinstance(step, list) else f"{kind}({inner}{',' * (len(step) == 1)})"
    if isinstance(step, set | frozenset):
        return f"{kind}{{{', '.join(sorted(map(_described, step)))}}}"
    if isinstance(step, dict):
        inner = ", ".join(f"{_described(key)}: {_described(value)}" for key, value in step.items())
        return f"{kind}{{{inner}}}"
    if is_dataclass(step):
        options = {field.name: getattr(step, field.name) for field in fields(step) if field.repr}
        return f"{kind}({', '.join(f'{name}={_described(value)}' for name, value in options.items())})"
    state = step.__getstate__()  # attributes, those in slots too
    return f"{kind}({'' if state is None else _described(state)})"


def _class(kind: type) -> str:
    """A class of gradcut's by its name, another one with a digest of its source and of those that it inherits from."""
    if kind.__module__.split(".")[0] == "gradcut":
        return kind.__qualname__
    bases = [base for base in kind.__mro__ if base not in (object, *_CONTAINERS)]
    inherited = [_source(base) for base in bases if base.__module__.split(".")[0] != "gradcut"]
    return f"{kind.__module__}.{kind.__qualname__}#{_digest(''.join(inherited).encode())}"


def _function(function: Any) -> str:
    name = f"{function.__module__}.{function.__qualname__}"
    if not inspect.isfunction(function):
        return name  # a builtin
    function = inspect.unwrap(function)
    values = [*(cell.cell_contents for cell in function.__closure__ or ()), *(function.__defaults__ or ())]
    values += (function.__kwdefaults__ or {}).values()
    bound = f"({', '.join(map(_described, values))})" if values else ""
    return f"{name}#{_source(function)}{bound}"


def _source(code: Any) -> str:
    try:
        return _digest(inspect.getsource(code).encode())
    except (OSError, TypeError, IndexError):
        raise GradcutError(
            f"recipe: the source of {code.__module__}.{code.__qualname__} cannot be read, so that nobody could tell "
            "whether another one does the same; define it in a file, and let it hold numbers, strings and arrays only"
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
        if key in _WORDS or _decisive(old) == _decisive(new):
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            if old.get("name") != new.get("name"):
                differences.append(f"{key} {old.get('name')}, now {new.get('name')}")
            else:
                inner = [name for name in differing(old, new) if not name.startswith("sha256 ")]
                differences += [f"{key}'s {name}" for name in inner] or [f"another {key} of the same name"]
        else:
            differences.append(f"{key} {_change(old, new)}")
    return differences


def brief(differences: Sequence[str], most: int = 240) -> str:
    """The first of the differences in one line of about so many characters, and how many there are besides."""
    told = list(differences[:1])
    for difference in differences[1:]:
        if len("; ".join([*told, difference])) > most:
            break
        told.append(difference)
    rest = len(differences) - len(told)
    return "; ".join(told) + (f"; and {rest} more" if rest else "")


def _change(old: Any, new: Any) -> str:
    """Two values in a few words; of long ones what they do not have in common."""
    before, now = _text(old), _text(new)
    if max(len(before), len(now)) > 60:
        texts = [re.findall(r"[^(),;]+|[(),;] ?", text) for text in (before, now)]
        for direction in (1, -1):  # what they begin with in common, then what they end with
            pairs = zip(*(text[::direction] for text in texts), strict=False)
            same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            texts = [text[same:] if direction == 1 else text[: len(text) - same] for text in texts]
        before, now = ("".join(text).strip(", ") or "without" for text in texts)
    return f"{_cut(before)}, now {_cut(now)}"


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return ", ".join(value) or "none"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text[:12] if re.fullmatch(r"[0-9a-f]{64}", text) else text


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def versions() -> dict[str, str]:
    """Of Python and the packages whose versions may change the last digits of a result; timm's if it is there."""
    return dict(_versions())


@functools.cache
def _versions() -> Mapping[str, str]:
    known = {"python": platform.python_version()}
    for name in ("gradcut", "torch", "timm", "numpy", "pillow"):
        with suppress(importlib.metadata.PackageNotFoundError):
            known[name] = importlib.metadata.version(name)
    return known
