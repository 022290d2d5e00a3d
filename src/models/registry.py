"""Heads and backbones by name: ours, and those that modules named by `plugins` register.

Configurations and weights name a head or a network; what is built is looked up here, so that nothing found in a file of
weights decides which code runs.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, TypeVar

from src.models import heads
from src.models.emonet import EmoNet
from src.models.heads.base import Head
from src.utils.errors import ConfigError

HeadClass = TypeVar("HeadClass", bound=type[Head])
BackboneClass = TypeVar("BackboneClass", bound=type[EmoNet])
Plugins = str | Sequence[str]

_heads: dict[str, type[Head]] = {}
_backbones: dict[str, type[EmoNet]] = {"emonet": EmoNet}


def register_head(name: str) -> Callable[[HeadClass], HeadClass]:
    """Return a decorator that makes a head known as `head.name`.

    Args:
        name: Its name in configurations and weights: letters, digits, `_` and `-`.

    Raises:
        ConfigError: If the name is taken or no name, or what is decorated is no `Head`.

    Example:
        >>> @register_head("max_pool")
        ... class MaxPoolHead(Head): ...
    """

    def register(head: HeadClass) -> HeadClass:
        if not head.__module__.startswith(f"{heads.__name__}."):
            _import_shipped_heads()  # whose names are taken
        _add("head", Head, _heads, name, head)
        return head

    return register


def register_backbone(name: str) -> Callable[[BackboneClass], BackboneClass]:
    """Return a decorator that makes a network known as `backbone.architecture`.

    Args:
        name: Its name in configurations and weights: letters, digits, `_` and `-`.

    Raises:
        ConfigError: If the name is taken or no name, or what is decorated is no `EmoNet`, whose taps heads read.
    """

    def register(backbone: BackboneClass) -> BackboneClass:
        _add("backbone", EmoNet, _backbones, name, backbone)
        return backbone

    return register


def _add(kind: str, base: type, known: dict[str, Any], name: str, added: type) -> None:
    if not re.fullmatch(r"[\w-]+", name):  # a part of file names
        raise ConfigError(f"register_{kind}({name!r}); expected a name of letters, digits, _ and -.")
    if not issubclass(added, base):
        raise ConfigError(f"register_{kind}({name!r}) decorates {_path(added)}; expected a subclass of {_path(base)}.")
    # The same class again is a module that was loaded again, as in a notebook.
    if name in known and _path(known[name]) != _path(added):
        raise ConfigError(
            f"register_{kind}({name!r}) for {_path(added)}, but {_path(known[name])} has this name; choose another one."
        )
    known[name] = added


def _path(known: type) -> str:
    return f"{known.__module__}.{known.__qualname__}"


def _import_shipped_heads() -> None:
    """Import every module of `src.models.heads`: a new file there is found without a list of them."""
    for module in pkgutil.iter_modules(heads.__path__, f"{heads.__name__}."):
        import_module(module.name)


def has_head(name: str) -> bool:
    """Whether a head of this name is registered."""
    _import_shipped_heads()
    return name in _heads


def head_class(name: str) -> type[Head]:
    """Return the head of a name.

    Raises:
        ConfigError: If there is none.
    """
    _import_shipped_heads()
    return _known("head", "head", _heads, name)  # type: ignore[no-any-return]


def backbone_class(name: str) -> type[EmoNet]:
    """Return the network of a name.

    Raises:
        ConfigError: If there is none.
    """
    return _known("backbone", "backbone.architecture", _backbones, name)  # type: ignore[no-any-return]


def _known(kind: str, key: str, known: Mapping[str, Any], name: str) -> Any:
    if name not in known:
        raise ConfigError(
            f"{key}={name!r} is unknown; expected one of {', '.join(sorted(known))}, or one of your own: "
            f"plugins=[my_package.my_module] must name the module that registers it with @register_{kind}({name!r})."
        )
    return known[name]


def load_plugins(modules: Plugins) -> None:
    """Import the modules that register heads and backbones of one's own.

    Args:
        modules: Their names; what they hold is run, so they come from the user alone, never from a file of weights.

    Raises:
        ConfigError: If there is no such module.
    """
    for module in [modules] if isinstance(modules, str) else modules:
        _import("plugins", module, module)


def check_target(head: Mapping[str, Any]) -> None:
    """Refuse a head that its own weights could not name, before it is trained.

    Args:
        head: Configuration of a head; its module is imported if `_target_` names it.

    Raises:
        ConfigError: If `_target_` is not the class that is registered as `name`.
    """
    _import_shipped_heads()
    target, name = str(head.get("_target_") or ""), str(head["name"])
    if target:
        module, _, attribute = target.rpartition(".")
        found = getattr(_import("head._target_", target, module), attribute, None)
        if found is None or found is not _heads.get(name):
            registered = _path(_heads[name]) if name in _heads else "nothing"
            raise ConfigError(
                f"head._target_={target}, but head.name={name} is registered for {registered}; put "
                f"@register_head({name!r}) before the class, so that its weights can name it."
            )


def _import(key: str, value: str, module: str) -> Any:
    reason = "no name of a module"
    if re.fullmatch(r"\w+(\.\w+)*", module):
        try:
            return import_module(module)
        except ModuleNotFoundError as error:
            if not f"{module}.".startswith(f"{error.name}."):
                raise  # it is there, and lacks something itself
            reason = str(error)
    raise ConfigError(
        f"{key}={value} cannot be imported ({reason}); expected a module that Python finds from here, such as "
        "my_package.my_module: install its package, start in the folder that holds it, or add that to PYTHONPATH."
    )
