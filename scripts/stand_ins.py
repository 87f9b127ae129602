"""Small stand-ins for pydantic and safetensors, for a bare machine that has torch and no more.

`scripts/gpu_check.py` puts them in the place of what is not installed, so that the sweep, which reads only
the shipped configurations and plays random weights, still runs; nothing else uses them. They build, copy and
compare models as pydantic does and run their validators, but they check no types and no ranges: the shipped
configurations are checked by the tests, which also hold that both ways give the same worlds. What needs the
real libraries (bundles, checkpoints) is skipped by name.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType
from typing import Annotated, Any, NoReturn, get_args, get_origin, get_type_hints


class Required:
    """The default of a field that has none."""


class FieldInfo:
    def __init__(
        self, default: Any = Required, *, default_factory: Callable[[], Any] | None = None, **_: Any
    ) -> None:
        self.default, self.factory = default, default_factory


class AfterValidator:
    def __init__(self, check: Callable[[Any], Any]) -> None:
        self.check = check


class ValidationError(ValueError):
    def errors(self) -> list[dict[str, Any]]:
        return [{"loc": (), "msg": str(self)}]


class BaseModel:
    """Keyword-only construction, frozen, compared by value."""

    def __init__(self, **given: Any) -> None:
        hints = get_type_hints(type(self), include_extras=True)
        hints = {name: hint for name, hint in hints.items() if not name.startswith("model_")}
        if unknown := given.keys() - hints.keys():
            raise ValidationError(f"{type(self).__name__} has no {', '.join(sorted(unknown))}")
        for name, hint in hints.items():
            value = _typed(hint, given[name]) if name in given else self._default(name)
            object.__setattr__(self, name, value)
        for kind in type(self).__mro__:
            for check in vars(kind).values():
                if getattr(check, "runs_after", False):
                    check(self)

    @classmethod
    def _default(cls, name: str) -> Any:
        default = getattr(cls, name, Required)
        if isinstance(default, FieldInfo):
            default = default.factory() if default.factory else default.default
        if default is Required:
            raise ValidationError(f"{cls.__name__} needs {name}")
        return default

    @classmethod
    def model_validate(cls, given: Any) -> Any:
        return given if isinstance(given, cls) else cls(**given)

    @classmethod
    def model_validate_json(cls, text: str | bytes) -> Any:
        return cls(**json.loads(text))

    def model_dump(self, **_: Any) -> dict[str, Any]:
        return {name: _plain(value) for name, value in vars(self).items()}

    def model_copy(self, *, update: dict[str, Any] | None = None) -> Any:
        twin = object.__new__(type(self))
        vars(twin).update(vars(self) | (update or {}))
        return twin

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise ValidationError(f"{type(self).__name__} is frozen")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"
        )


def _typed(hint: Any, value: Any) -> Any:
    """A JSON value as its field's type: models out of objects, tuples out of arrays."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _typed(inner[0], value)
    if isinstance(hint, type) and issubclass(hint, BaseModel) and isinstance(value, dict):
        return hint(**value)
    if origin is tuple and isinstance(value, (list, tuple)):
        of = [inner[0]] * len(value) if inner[1:] == (...,) else list(inner)
        return tuple(_typed(kind, item) for kind, item in zip(of, value, strict=True))
    if origin is dict:
        return {key: _typed(inner[1], item) for key, item in value.items()}
    return float(value) if hint is float else value


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return tuple(map(_plain, value)) if isinstance(value, tuple) else value


def model_validator(*, mode: str) -> Callable[[Any], Any]:
    """Only `after` occurs."""

    def mark(check: Any) -> Any:
        check.runs_after = mode == "after"
        return check

    return mark


def _refuses(library: str) -> Callable[..., NoReturn]:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise ModuleNotFoundError(f"{library} is not installed", name=library)

    return refuse


def _module(name: str, **members: Any) -> None:
    module = ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module


def fill_in() -> tuple[str, ...]:
    """Put the stand-ins where the libraries are missing -> the names of those libraries."""
    missing = tuple(name for name in ("pydantic", "safetensors") if find_spec(name) is None)
    if "pydantic" in missing:
        _module(
            "pydantic",
            BaseModel=BaseModel,
            ConfigDict=dict,
            Field=FieldInfo,
            AfterValidator=AfterValidator,
            ValidationError=ValidationError,
            JsonValue=Any,
            model_validator=model_validator,
        )
    if "safetensors" in missing:
        refuse = _refuses("safetensors")
        _module("safetensors", SafetensorError=type("SafetensorError", (Exception,), {}), safe_open=refuse)
        _module("safetensors.torch", save_file=refuse, load_file=refuse)
    return missing
