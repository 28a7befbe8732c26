"""Verbs whose modules are imported when called: `predict` would wait some 30 ms for all the others."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group


class _Commands(UserDict[str, Any]):
    """Verb → its command, built when it is asked for."""

    def __getitem__(self, verb: str) -> Any:
        module, name = self.data[verb].split(":")
        found = getattr(import_module(module), name)
        alone = typer.Typer(rich_markup_mode="markdown")
        if isinstance(found, typer.Typer):
            alone.add_typer(found, name=verb)
        else:
            alone.command(verb)(found)
        return get_group(alone).commands[verb]


def group(verbs: Mapping[str, str]) -> type[TyperGroup]:
    """The class of a command that has `verbs`: name → `module:function`, in the order of the help."""

    class Group(TyperGroup):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.commands = _Commands(verbs)

    return Group
