"""The project's code location: the module that workspace.yaml names, and what is written in it.

A project without hand-written assets names `rat_assets.definitions` itself.
"""

from pathlib import Path

from dagster._core.code_pointer import CodePointer
from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.load import location_origins_from_yaml_paths

from rat_assets.hand_written import LakeAsset, collecting
from rat_resources.errors import RatError, SettingsError

NAME = "rat"
ATTRIBUTE = "defs"
OURS = LoadableTargetOrigin(module_name="rat_assets.definitions", attribute=ATTRIBUTE)


def find_location(project: Path) -> LoadableTargetOrigin:
    """The module that Dagster loads as the location `rat`; SettingsError when none is."""
    workspace = project / "workspace.yaml"
    if not workspace.is_file() or not workspace.read_text().strip():
        return OURS
    for origin in location_origins_from_yaml_paths([str(workspace)]):
        is_module = isinstance(origin, ManagedGrpcPythonEnvCodeLocationOrigin)
        if is_module and origin.location_name == NAME:
            return origin.loadable_target_origin
    message = f"{workspace} names no code location {NAME}"
    raise SettingsError(message, fix=f"write location_name: {NAME}")


def find_assets(project: Path) -> list[LakeAsset]:
    """The hand-written assets of a project; nothing else of it is built."""
    target = find_location(project)
    name = target.python_file or target.module_name
    with collecting() as found:
        try:
            made = pointer(target).load_target()
            if callable(made):
                made()
        except RatError:
            raise
        except Exception as error:
            message = f"{name} cannot be loaded: {type(error).__name__}: {error}"
            raise SettingsError(message, fix="correct it, or workspace.yaml") from error
    if not callable(made):
        message = f"{name} builds its definitions when it is imported"
        raise SettingsError(message, fix="make them in a function: @dg.definitions")
    return found


def pointer(target: LoadableTargetOrigin) -> CodePointer:
    """Dagster's own way to the object that a target names."""
    attribute = target.attribute or ATTRIBUTE
    if target.python_file:
        return CodePointer.from_python_file(
            target.python_file, attribute, target.working_directory
        )
    return CodePointer.from_module(
        target.module_name or "", attribute, target.working_directory
    )
