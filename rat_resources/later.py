"""Later: modules that a dependency imports and most processes never use.

`importlib.util.LazyLoader` does not help here: an `import` statement itself looks into the module.
"""

import importlib
import sys
from types import ModuleType
from typing import Any


class Later(ModuleType):
    """Stands in for a module until somebody asks for something in it."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the module holds
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        real = importlib.import_module(self.__name__)
        self.__dict__.update(vars(real))
        return getattr(real, name)


def import_later(name: str) -> None:
    """Let `import name` cost nothing until the module is used; where it is imported, it stays."""
    if name not in sys.modules:
        module = Later(name)
        sys.modules[name] = module
        package, _, last = name.rpartition(".")
        setattr(importlib.import_module(package), last, module)
