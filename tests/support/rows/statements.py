"""The SQL of the services: constants in upper case, in any of their modules."""

import importlib
import pkgutil
import re
from collections.abc import Iterator

STATEMENT = re.compile(r"\s*(WITH|SELECT|INSERT|UPDATE|DELETE)\s")


def statements_of(*modules: str) -> dict[str, str]:
    """Return the SQL constants of *modules*, by their qualified names."""
    return {
        f"{module}.{name}": value
        for module in modules
        for name, value in vars(importlib.import_module(module)).items()
        if name.isupper() and not name.startswith("_") and isinstance(value, str)
        if STATEMENT.match(value)
    }


def store_modules(service: str) -> Iterator[str]:
    """Name the modules of *service* that hold SQL."""
    package = importlib.import_module(f"services.{service}")
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not found.name.endswith("__main__") and statements_of(found.name):
            yield found.name
