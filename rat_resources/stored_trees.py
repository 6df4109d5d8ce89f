"""The folder tree that a store holds: what is there is published by `rat publish` without a folder.

Reading a tree of local files is `trees`; one in S3 is copied first.
"""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rat_resources.store import Store
from rat_resources.trees import Tree, read_tree, shown

# {namespace}/pipelines/{layer}/{name}/…, {namespace}/landing/{zone}.yaml, {namespace}/alerts/{name}.yaml
# and {namespace}/retention.yaml
PIPELINES, LANDING, ALERTS = "pipelines", "landing", "alerts"


def read_stored(store: Store) -> Tree:
    """Read every pipeline and zone description that *store* holds."""
    if isinstance(store.root, Path):
        return read_tree(store.root)
    with TemporaryDirectory(prefix="rat-tree-") as folder:
        root = Path(folder)
        for namespace in store.folders():
            for key in code_of(store, namespace):
                target = root / key
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(store.read(key))
        return called(read_tree(root), before=shown(root), now=str(store.root))


def code_of(store: Store, namespace: str) -> list[str]:
    """The keys of a namespace that a publication reads: none of its landing files."""
    pipelines = store.list(f"{namespace}/{PIPELINES}")
    said = (store.files(f"{namespace}/{each}") for each in (LANDING, ALERTS))
    return [
        *pipelines,
        *(key for keys in said for key in keys),
        *store.files(namespace),
    ]


def called(tree: Tree, *, before: str, now: str) -> Tree:
    """*tree* with every path as it is called in the store."""
    return replace(
        tree,
        sources=tuple(
            replace(each, folder=each.folder.replace(before, now, 1))
            for each in tree.sources
        ),
        zones=tuple(
            replace(each, path=each.path.replace(before, now, 1)) for each in tree.zones
        ),
        alerts=tuple(
            replace(each, path=each.path.replace(before, now, 1))
            for each in tree.alerts
        ),
        problems=tuple(
            replace(each, path=each.path.replace(before, now, 1))
            for each in tree.problems
        ),
    )
