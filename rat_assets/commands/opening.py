"""Opening: the platform, as every command gets it.

Dagster's instance is `rat_resources.instance`: a command that does without it is half a second faster.
"""

import os

from rat_resources.platform import Platform, platform
from rat_resources.settings import Settings


def open_platform() -> Platform:
    """The platform; what this process imports and starts sees the very same settings."""
    os.environ.update(Settings.load().environ)
    return platform()
