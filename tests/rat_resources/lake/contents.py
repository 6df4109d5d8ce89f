"""Factories for the tests of refs: keys, contents, branches with something on them."""

from dataclasses import replace

from rat_resources.lake.refs import (
    MAIN,
    CommitResult,
    IcebergTable,
    Key,
    Namespace,
    Operation,
    Put,
    Refs,
    parents,
)

ORDERS = ("shop", "silver", "orders")
SALES = ("shop", "gold", "sales")
LAYERS = (("shop",), ("shop", "silver"), ("shop", "gold"))


def make_namespaces(*keys: Key) -> list[Operation]:
    """Puts of the namespaces *keys*, or of those that every test uses."""
    return [Put(key, Namespace()) for key in keys or LAYERS]


def make_table(
    refs: Refs, key: Key = ORDERS, *, on: str, file: str = "1"
) -> IcebergTable:
    """A new table and all that it lies in, in one commit; its content."""
    outer = [Put(parent, Namespace()) for parent in parents(key)]
    put = Put(key, IcebergTable(file))
    refs.commit(on, [*outer, put], message=f"Make {key[-1]}")
    return table_at(refs, key, at=on)


def change_table(refs: Refs, key: Key = ORDERS, *, on: str, file: str) -> CommitResult:
    """Another metadata file for a table that is there."""
    content = table_at(refs, key, at=on)
    put = Put(key, replace(content, metadata_location=file))
    return refs.commit(on, [put], message=f"Change {key[-1]} to {file}")


def table_at(refs: Refs, key: Key = ORDERS, *, at: str = MAIN) -> IcebergTable:
    """The table, which is there."""
    content = refs.content(key, at=at)
    assert isinstance(content, IcebergTable)
    return content


def file_at(refs: Refs, key: Key = ORDERS, *, at: str = MAIN) -> str | None:
    """The metadata file of the table, if it is there."""
    content = refs.content(key, at=at)
    return content.metadata_location if isinstance(content, IcebergTable) else None


def publish_table(refs: Refs, key: Key = ORDERS, *, file: str = "1") -> None:
    """A table on main, made on a branch and merged."""
    branch = f"publish-{'-'.join(key)}-{file}"
    refs.create(branch)
    make_table(refs, key, on=branch, file=file)
    refs.merge(branch)
