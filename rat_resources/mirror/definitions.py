"""Definitions: what a published pipeline is in Trace's words, and what tells one version of it from another.

Everything here follows from the pipelines of one namespace alone, so the same pipelines are the same
DAG version with the same generations, whenever and by whomever they are published. Writing them
down is `dags`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from typing import Any

from rat_resources.hashes import hash_of

Document = Mapping[str, Any]

RUNTIME = "dagster"
# What an append is told apart by: a publication adds its rows once.
APPEND_KEY = ["_rat_run"]
# Only shown; neither changes what is made, nor when or by whom.
ONLY_SHOWN = ("excerpt",)


@dataclass(frozen=True)
class Definition:
    """One published pipeline."""

    dag: str  # its namespace
    name: str  # layer.name
    spec: Document

    @classmethod
    def from_spec(cls, spec: Document) -> "Definition":
        """The definition of a stored spec."""
        dag, _, name = spec["table"].partition(".")
        return cls(dag, name, spec)

    @property
    def dataset(self) -> str:
        """The name of what it makes."""
        return f"{self.dag}.{self.name}"

    @property
    def zones(self) -> list[str]:
        """The names of the landing zones that it reads."""
        names = {each["name"] for each in self.spec["zones"]}
        return [f"{self.dag}.landing.{name}" for name in sorted(names)]

    @property
    def inputs(self) -> list[str]:
        """The names of all that it reads, in order."""
        return sorted({*self.spec["refs"], *self.zones})

    @property
    def config(self) -> dict[str, Any]:
        """What its author says and what changes the output."""
        # It loads the lake, which takes a second that few who see the mirror need to wait.
        from rat_resources.configuration import WITHOUT_EFFECT  # noqa: PLC0415

        said = self.spec["config"]
        return {key: said[key] for key in said if key not in WITHOUT_EFFECT}

    @property
    def update_strategy(self) -> str:
        """Whether a publication adds to what is there, or makes it anew as far as it goes."""
        return "append" if self.config["merge_strategy"] == "append_only" else "replace"

    @property
    def unique_key(self) -> list[str] | None:
        """What tells its rows apart."""
        if self.update_strategy == "append":
            return APPEND_KEY
        return self.config["unique_key"] or None

    @cached_property
    def config_hash(self) -> str:
        """Changes with whatever changes the output."""
        return hash_of(
            {
                "operator": self.spec["type"],
                "runtime": RUNTIME,
                "config": self.config,
                "inputs": self.inputs,
                "update_strategy": self.update_strategy,
                "unique_key": self.unique_key,
                "code_version": self.spec["code_version"],
            }
        )

    @property
    def activation(self) -> str:
        """What reads no table is a source: a clock, a file or a person starts it."""
        return "reactive" if self.spec["refs"] else "source"

    @property
    def execution_strategy(self) -> str | None:
        """How a reactive job answers: once an update, or once a partition of it."""
        if self.activation == "source":
            return None
        parts = self.config["partition_column"] or self.config["partition_by"]
        return "PerPartition" if parts else "PerUpdate"

    @property
    def source(self) -> dict[str, Any] | None:
        """What starts it beside the tables that it reads."""
        said = self.spec["config"]
        found: dict[str, Any] = {}
        if said["schedules"]:
            found = {
                "kind": "cron",
                "schedule": said["schedules"][0]["cron"],
                "schedules": said["schedules"],
            }
        if said["triggers"]:
            found = {"kind": "landing_zone", **found, "triggers": said["triggers"]}
        if self.zones:
            found = {**found, "zones": self.zones}
        if "kind" not in found and self.activation == "source":
            found = {"kind": "manual", **found}
        return found or None

    @property
    def max_attempts(self) -> int:
        """How often a step of it is tried."""
        return 1 + int(self.spec["config"]["max_retries"])


def version_hash(definitions: Iterable[Definition]) -> str:
    """What tells this set of pipelines from any other; comments and blanks do not."""
    return hash_of(
        {
            each.name: {
                key: value for key, value in each.spec.items() if key not in ONLY_SHOWN
            }
            for each in definitions
        }
    )


def generations(definitions: Sequence[Definition]) -> dict[str, str]:
    """What tells the generation of each dataset from its others: its definition and those above it.

    Only those of the same namespace: other DAGs may read a dataset, and never drive each other's.
    """
    known = {each.dataset: each for each in definitions}
    above = {
        name: [ref for ref in each.spec["refs"] if ref in known]
        for name, each in known.items()
    }
    found: dict[str, str] = {}
    for name in TopologicalSorter(above).static_order():
        upstream = sorted((ref, found[ref]) for ref in above[name])
        found[name] = hash_of([known[name].config_hash, upstream])
    return found
