"""Secrets: what of a configuration nobody shall read in a table."""

import re
from typing import Any

from rat_resources.settings import mask_secrets

MASKED = "***"
NAMES = re.compile(
    r"pass(word|phrase|wd)?$|secret|token|api_?key|credential|private_?key|authorization",
    re.IGNORECASE,
)


def without_secrets(config: Any, *, name: str = "") -> Any:  # noqa: ANN401 - JSON
    """*config* with every value masked whose name says that it is secret, and passwords in URLs."""
    if NAMES.search(name) and config is not None and not names_variable(config):
        return MASKED
    match config:
        case dict():
            return {
                key: without_secrets(each, name=key) for key, each in config.items()
            }
        case list():
            return [without_secrets(each, name=name) for each in config]
        case str() if "://" in config:
            return mask_secrets(config)
    return config


def names_variable(config: Any) -> bool:  # noqa: ANN401 - JSON
    """Whether a value only names the environment variable that holds the secret."""
    return isinstance(config, dict) and set(config) == {"env"}
