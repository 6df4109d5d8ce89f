"""Opening: the platform and Dagster's instance, as every command gets them."""

import os

import dagster as dg

from rat_resources.platform import Platform, platform
from rat_resources.settings import Settings


def open_platform() -> Platform:
    """The platform; what this process imports and starts sees the very same settings."""
    os.environ.update(Settings.load().environ)
    return platform()


def open_instance() -> dg.DagsterInstance:
    """Dagster's instance, whether or not DAGSTER_HOME is set."""
    os.environ.update(Settings.load().environ)
    return dg.DagsterInstance.get()
