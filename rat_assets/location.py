"""The project's code location: the module that workspace.yaml names, and what is written in it.

A project without hand-written assets names `rat_assets.definitions` itself.
"""

import traceback
from pathlib import Path

from dagster import DagsterInvariantViolationError
from dagster._core.code_pointer import CodePointer
from dagster._core.errors import DagsterImportError
from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.load import location_origins_from_yaml_paths

from rat_assets.hand_written import LakeAsset, collecting
from rat_resources.errors import RatError, SettingsError
from rat_resources.trees import shown

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
            raise unloadable(error, target, project=project) from error
    if not callable(made):
        message = f"{name} builds its definitions when it is imported"
        raise SettingsError(message, fix="make them in a function: @dg.definitions")
    return found


def unloadable(
    error: Exception, target: LoadableTargetOrigin, *, project: Path
) -> SettingsError:
    """The error of a module that cannot be loaded, at the author's own line."""
    name = shown(Path(target.python_file)) if target.python_file else target.module_name
    attribute = target.attribute or ATTRIBUTE
    if isinstance(error, DagsterInvariantViolationError) and "not found" in str(error):
        fix = f"add @dg.definitions above def {attribute}(), or correct workspace.yaml"
        return SettingsError(f"{name} has no {attribute}", fix=fix)
    cause = error.__cause__ if isinstance(error, DagsterImportError) else error
    cause = cause or error
    said = cause.msg if isinstance(cause, SyntaxError) else str(cause)
    message = (
        f"{place_of(cause, project=project) or name}: {type(cause).__name__}: {said}"
    )
    fix = "correct it: the project's module cannot be loaded"
    return SettingsError(message, fix=fix)


def place_of(error: BaseException, *, project: Path) -> str:
    """The last line of the project's own code that *error* came through."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{shown(Path(error.filename))}:{error.lineno}"
    own = [
        f"{shown(Path(frame.filename))}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(project)
        and "site-packages" not in frame.filename
    ]
    return own[-1] if own else ""


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
