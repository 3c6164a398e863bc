"""Checks a composed configuration against dataclasses whose annotations define what each value can be.

OmegaConf's structured configs check types, but not ranges, choices or files, nor keys that come from a user's own YAML
file. Here a field is `size: Annotated[int, Meta(ge=16, le=4096)]`, and msgspec checks the value.
"""

import dataclasses
import functools
import pkgutil
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from inspect import Parameter, signature
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fst.errors import UserError

_KINDS = ("_target_", "architecture")  # keys that tell which of several dataclasses a node is
_LONGEST = 60  # characters of a value in a message
_MOST_NAMES = 180  # characters of a list of names in a message


class MissingKeyError(UserError):
    """A key that has no default."""

    def __init__(self, key: str, expected: str) -> None:
        super().__init__(f"{key} is missing; it can be {expected}")


@dataclass(frozen=True)
class Check:
    """In an annotation: `test` is called with the value, and raises a `UserError` if something is wrong with it."""

    test: Callable[[str], object]
    expected: str  # in words, for a value of another type


def _check_target(name: str) -> None:
    if ":" in name:  # as in `fst stylize --network`; Hydra would not find it
        raise UserError(f"it is written with dots only, as {name.replace(':', '.')}")
    if not callable(pkgutil.resolve_name(name)):
        raise UserError("neither a class nor a function")


@dataclass
class Open:
    """A node for a class of the user's choice. Its keys are the class's arguments, and those that a schema adds."""

    lenient: ClassVar[bool] = True  # allow any key if the class takes any keyword
    _target_: Annotated[str, Check(_check_target, "a class or function as MODULE.NAME; PYTHONPATH=. adds this folder")]


class Key(NamedTuple):
    """A field of a schema: what its value can be, and whether it may be left out."""

    hint: Any
    optional: bool


def one_of(choices: Iterable[str]) -> Meta:
    """In an annotation of `str`: one of these names."""
    names = list(choices)
    return Meta(pattern=f"^(?:{'|'.join(names)})$", description=_either(names))


def check(config: DictConfig, schema: Any, path: str = "", unused: frozenset[str] = frozenset()) -> None:
    """Refuse the first value that `schema` does not allow. Numbers become text where text is expected (`name=2024`).

    Args:
        schema: a dataclass, or a union of them. Its static method `rule`, if any, is called at the end with the node,
            to check several keys together.
        path: of the node in the whole configuration, with a dot at its end.
        unused: keys that this run does not use; they may be missing.

    Raises:
        UserError: names the key, the value, and what it can be.
    """
    schema = _pick(config, schema, path)
    keys = keys_of(schema)
    known: list[str | None] = list(keys)
    whose = ""
    if issubclass(schema, Open):
        _check_key(config, "_target_", keys["_target_"].hint, f"{path}_target_", unused)
        known = list(
            dict.fromkeys(
                [*(name for name, key in keys.items() if not key.optional), *_arguments(config, schema.lenient)]
            )
        )
        whose = f" of {config._target_}"
    for name in map(str, config):
        if name not in known and None not in known:
            without = f"; ~{path}{name} leaves it out" if name in keys else ""  # perhaps an experiment set it
            raise UserError(f"{path}{name}={show(_raw(config, name))}: {unknown_key(name, known, whose)}{without}")
    for name, key in keys.items():
        if f"{path}{name}" not in unused and not (key.optional and name not in config):
            _check_key(config, name, key.hint, f"{path}{name}", unused)
    if rule := getattr(schema, "rule", None):
        rule(config)


def _check_key(config: DictConfig, name: str, hint: Any, path: str, unused: frozenset[str]) -> None:
    if OmegaConf.is_missing(config, name):
        raise MissingKeyError(path, expected(hint))
    if name not in config:
        raise UserError(f"{path} is missing; it can be {expected(hint)}")
    schemas = [option for option in _options(hint) if dataclasses.is_dataclass(option)]
    try:
        value = config[name]
        nested = schemas and isinstance(value, DictConfig)
        plain: Any = OmegaConf.to_container(value, resolve=not nested) if OmegaConf.is_config(value) else value
    except OmegaConfBaseException as error:
        raw = _raw(config, name)
        if isinstance(raw, str) and "${hydra:" in raw:
            return  # Hydra knows it only once the run has begun
        raise UserError(f"{path}={show(raw)}: {str(error).splitlines()[0]}") from error
    if nested:
        check(value, Union[tuple(schemas)], f"{path}.", unused)  # noqa: UP007 (made of values)
    elif get_origin(hint) is list and dataclasses.is_dataclass(get_args(hint)[0]) and isinstance(value, ListConfig):
        for number, row in enumerate(value):
            if not isinstance(row, DictConfig):
                raise UserError(f"{path}[{number}]={show(row)}: it can be {expected(get_args(hint)[0])}")
            check(row, get_args(hint)[0], f"{path}[{number}].")
    elif get_origin(hint) is dict and _is_node(get_args(hint)[1]) and isinstance(value, DictConfig):
        for inner in map(str, value):
            if not isinstance(value[inner], DictConfig):
                raise UserError(f"{path}.{inner}={show(value[inner])}: it can be {expected(get_args(hint)[1])}")
            check(value[inner], get_args(hint)[1], f"{path}.{inner}.")
    elif get_origin(hint) is dict and isinstance(value, DictConfig):
        for inner, entry in plain.items():
            _check_value(entry, get_args(hint)[1], f"{path}.{inner}")
    elif not _check_value(plain, hint, path):
        config[name] = str(plain)


def _is_node(hint: Any) -> bool:
    return all(map(dataclasses.is_dataclass, _options(hint)))


def _raw(config: DictConfig, name: str) -> Any:
    """A value as it is written, interpolations unresolved."""
    plain: Any = OmegaConf.to_container(config, resolve=False)
    return plain[name]


def _check_value(value: Any, hint: Any, path: str) -> bool:
    """Returns whether the value itself is allowed; if not, it is allowed as text."""
    candidates = [value] if type(value) not in (int, float) else [value, str(value)]
    for candidate in candidates:
        for option in _options(hint):
            if not _fits(candidate, option):
                continue
            for test in getattr(option, "__metadata__", ()):
                if isinstance(test, Check):
                    _test(test, candidate, path)
            return candidate is value
    raise UserError(f"{path}={show(value)}: it can be {expected(hint)}")


def _fits(value: Any, hint: Any) -> bool:
    try:
        msgspec.convert(value, hint)
    except (msgspec.ValidationError, TypeError):
        return False
    return True


def _test(test: Check, value: str, path: str) -> None:
    try:
        test.test(value)
    except UserError as error:
        start = f"{path}={show(value)}: "
        raise UserError(start + str(error).removeprefix(start).removeprefix(f"{value}: ")) from error
    except Exception as error:  # from a library
        reason = show(f"{type(error).__name__}: {error}", 150)
        raise UserError(f"{path}={show(value)}: it can be {test.expected} ({reason})") from error


def _pick(config: DictConfig, schema: Any, path: str) -> Any:
    """The dataclass of a union that fits the node's `_target_` or `architecture`."""
    schemas = _options(schema)
    if len(schemas) == 1:
        return schemas[0]
    kinds = {option: next(name for name in _KINDS if name in keys_of(option)) for option in schemas}
    kind = next((name for name in _KINDS if name in list(config)), kinds[schemas[0]])  # `in` itself passes over ???
    alike = [option for option in schemas if kinds[option] == kind]
    found = [option for option in alike if _fits(config.get(kind), keys_of(option)[kind].hint)]
    if not found:
        wanted = _either(expected(keys_of(option)[kind].hint) for option in alike or schemas)
        raise UserError(f"{path}{kind}={show(config.get(kind))}: it can be {wanted}")
    return found[0]


@functools.cache
def keys_of(schema: Any) -> dict[str, Key]:
    """The keys of a dataclass, or of all dataclasses in a union."""
    keys = {}
    for option in filter(dataclasses.is_dataclass, _options(schema)):
        hints = get_type_hints(option, include_extras=True)
        for field in dataclasses.fields(option):
            keys[field.name] = Key(hints[field.name], field.default is not dataclasses.MISSING)
    return keys


def _arguments(config: DictConfig, lenient: bool) -> list[str | None]:
    """The arguments of the class at `_target_`; None stands for any other."""
    try:
        parameters = signature(pkgutil.resolve_name(config._target_)).parameters.values()
    except (TypeError, ValueError):  # some classes written in C have no signature
        return [None]
    catch_all = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters)
    named = [parameter.name for parameter in parameters if parameter.kind is not Parameter.VAR_KEYWORD]
    return [*named, None] if catch_all and lenient else [*named]


def _options(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def expected(hint: Any) -> str:
    """What a value with that annotation can be, in words.

    >>> expected(Annotated[int, Meta(ge=1, le=8)] | Literal["auto"] | None)
    'a whole number from 1 to 8, auto or null'
    """
    return _either(_expected(option) for option in _options(hint))


def _expected(option: Any) -> str:
    if get_origin(option) is Literal:
        return _either(map(str, get_args(option)))
    if dataclasses.is_dataclass(option) and isinstance(option, type):
        return f"keys of its own ({', '.join(keys_of(option))})"
    if get_origin(option) in (list, tuple):
        return f"a list, in it {expected(get_args(option)[0])}"
    if get_origin(option) is dict:
        return f"names, each with {expected(get_args(option)[1])}"
    notes = getattr(option, "__metadata__", ())
    if words := [n.expected for n in notes if isinstance(n, Check)] + [n.description for n in notes if _is_named(n)]:
        return words[0]
    plain = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}
    bounds = next((note for note in notes if isinstance(note, Meta)), Meta())
    names = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}
    known = {word: value for key, word in names.items() if (value := getattr(bounds, key)) is not None}
    limits = [f"{word} {value if isinstance(value, int) else f'{value:g}'}" for word, value in known.items()]
    return " ".join([plain[get_args(option)[0] if notes else option], *limits])


def _is_named(note: object) -> bool:
    return isinstance(note, Meta) and bool(note.description)


def takes_text(schema: Any, path: str) -> bool:
    """Whether the value at a dotted name can be text, and cannot be a number."""
    *parents, name = path.split(".")
    for parent in parents:
        schema = keys_of(schema)[parent].hint if parent in keys_of(schema) else None
    kinds = _options(keys_of(schema)[name].hint) if name in keys_of(schema) else ()
    plain = [get_args(kind)[0] if hasattr(kind, "__metadata__") else kind for kind in kinds]
    return str in plain and int not in plain and float not in plain


def unknown_path(schema: Any, path: str) -> str:
    """The message for a dotted name that the configuration does not have."""
    keys = keys_of(schema)
    for name in path.split("."):
        if name not in keys:
            return unknown_key(name, keys) if keys else "there are no keys below it"
        key = keys[name]
        if get_origin(key.hint) is dict:
            return f"not there; +{path}=VALUE adds it"
        if key.optional:
            return f"not set; +{path}=VALUE adds it"
        keys = keys_of(key.hint)
    return "not a key of what is chosen here"


def unknown_key(name: str, known: Iterable[str | None], whose: str = "") -> str:
    """The message for a key that is not among the known ones."""
    names = [key for key in known if key is not None and not key.startswith("_")]
    return f"no such key{whose}; {suggest(name, names)}"


def suggest(name: str, names: Iterable[str]) -> str:
    """The names that were probably meant, or all names."""
    names = list(names)
    if near := get_close_matches(name, names, 3):
        return f"did you mean {_either(near)}?"
    listed = ", ".join(names)
    return f"there are {listed}" if len(listed) <= _MOST_NAMES else f"there are {listed[:_MOST_NAMES]}… (see --help)"


def show(value: object, longest: int = _LONGEST) -> str:
    """A value for a message: on one line, shortened."""
    text = str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)
    if isinstance(value, dict | list):
        text = text.replace("'", "")
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _either(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
