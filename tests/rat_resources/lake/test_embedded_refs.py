"""What only the embedded keeper promises: the caller's transaction, and work that stays flat."""

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Barrier

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from rat_resources.errors import MergeConflictError, NotFoundError
from rat_resources.lake.commits import CONTENTS, encode_key
from rat_resources.lake.embedded_refs import EmbeddedRefs
from rat_resources.lake.refs import (
    MAIN,
    Delete,
    IcebergTable,
    Key,
    Operation,
    Put,
    ReferenceType,
    Refs,
)
from rat_resources.metadata import Metadata
from tests.rat_resources.lake.contents import (
    ORDERS,
    SALES,
    change_table,
    file_at,
    make_namespaces,
    make_table,
    publish_table,
)


@pytest.fixture
def refs(metadata: Metadata) -> EmbeddedRefs:
    refs = EmbeddedRefs(metadata.engine)
    refs.bootstrap()
    return refs


def test_it_is_a_keeper_of_refs(refs: EmbeddedRefs) -> None:
    keeper: Refs = refs

    assert keeper.transactional


def test_a_recreated_branch_does_not_answer_for_the_old_one(refs: EmbeddedRefs) -> None:
    refs.create("run-1")
    make_table(refs, on="run-1")
    old = refs.head("run-1")
    refs.delete("run-1", expected_hash=old)
    refs.create("run-1")

    with pytest.raises(NotFoundError):
        refs.merge("run-1", from_hash=old)


def test_a_key_may_hold_a_line_feed(refs: EmbeddedRefs) -> None:
    key = ("shop", "silver", "a\nb")
    refs.create("run-1")

    make_table(refs, key, on="run-1")

    assert file_at(refs, key, at="run-1") == "1"


def test_two_that_bootstrap_at_once_make_one_main(metadata: Metadata) -> None:
    barrier = Barrier(8)

    def bootstrap(_: int) -> str:
        barrier.wait()
        return EmbeddedRefs(metadata.engine).bootstrap().hash

    with ThreadPoolExecutor(8) as pool:
        hashes = set(pool.map(bootstrap, range(8)))

    assert hashes == {EmbeddedRefs(metadata.engine).head(MAIN)}
    with metadata.engine.connect() as tx:
        assert tx.scalar(text("SELECT count(*) FROM lake.commits")) == 1


def test_a_merge_stands_with_the_callers_transaction(
    refs: EmbeddedRefs, metadata: Metadata
) -> None:
    refs.create("run-1")
    make_table(refs, on="run-1")

    with metadata.transaction() as tx:
        result = refs.merge("run-1", connection=tx)
        seen_meanwhile = file_at(refs)

    assert seen_meanwhile is None
    assert result.was_applied
    assert refs.head(MAIN) == result.hash
    assert file_at(refs) == "1"


def test_a_merge_falls_with_the_callers_transaction(
    refs: EmbeddedRefs, metadata: Metadata
) -> None:
    refs.create("run-1")
    make_table(refs, on="run-1")
    head = refs.head(MAIN)

    with Session(metadata.engine) as tx:
        refs.merge("run-1", connection=tx)
        tx.rollback()

    assert refs.head(MAIN) == head
    assert refs.merge("run-1").was_applied


def test_a_conflict_leaves_the_callers_transaction_usable(
    refs: EmbeddedRefs, metadata: Metadata
) -> None:
    for name in ("run-1", "run-2"):
        refs.create(name)
        make_table(refs, on=name, file=name)
    refs.merge("run-1")

    with metadata.engine.begin() as tx:
        with pytest.raises(MergeConflictError):
            refs.merge("run-2", connection=tx)
        answer = tx.scalar(text("SELECT 1"))

    assert answer == 1
    assert file_at(refs) == "run-1"


def test_a_branch_cannot_go_while_it_is_being_merged(
    refs: EmbeddedRefs, metadata: Metadata
) -> None:
    refs.create("run-1")
    make_table(refs, on="run-1")
    head = refs.head("run-1")

    with ThreadPoolExecutor(1) as pool:
        with metadata.engine.begin() as tx:
            refs.merge("run-1", connection=tx)
            deletion = pool.submit(refs.delete, "run-1", expected_hash=head)
            running = deletion.running() or not deletion.done()
        deletion.result(timeout=10)

    assert running
    assert file_at(refs) == "1"


def test_commits_are_dated_by_the_database(
    refs: EmbeddedRefs, metadata: Metadata
) -> None:
    refs.create("run-1")

    with metadata.engine.connect() as tx:
        before = tx.scalar(text("SELECT clock_timestamp()"))
        tx.rollback()
        make_table(refs, on="run-1")
        after = tx.scalar(text("SELECT clock_timestamp()"))

    assert before <= next(refs.history("run-1")).time <= after


def test_a_branch_costs_one_row_whatever_main_holds(
    refs: EmbeddedRefs, metadata: Metadata
) -> None:
    publish_table(refs)

    def rows() -> dict[str, int]:
        tables = ("lines", "commits", "operations", "refs")
        with metadata.engine.connect() as tx:
            return {
                table: tx.execute(
                    text(f"SELECT count(*) FROM lake.{table}")
                ).scalar_one()
                for table in tables
            }

    before = rows()
    refs.create("run-1")
    refs.create("kept", kind=ReferenceType.TAG)
    after = rows()

    assert after == before | {"refs": before["refs"] + 2}


def test_a_commit_writes_only_what_it_changes(
    refs: EmbeddedRefs, metadata: Metadata
) -> None:
    publish_table(refs)
    refs.create("run-1")

    change_table(refs, on="run-1", file="2")

    with metadata.engine.connect() as tx:
        newest = text("SELECT key FROM lake.operations ORDER BY line DESC, seq DESC")
        counted = text(
            "SELECT count(*) FROM lake.operations GROUP BY line ORDER BY line"
        )
        assert tuple(tx.scalars(newest).first() or ()) == ORDERS
        assert list(tx.scalars(counted))[-1] == 1


MAIN_POSITION = """
    SELECT commits.line, seq
    FROM lake.commits
    JOIN lake.refs USING (hash)
    WHERE name = 'main'
"""
LONG_HISTORY = """
    INSERT INTO lake.commits (hash, line, seq, parent_hash, message, authors, properties)
    SELECT 'h' || seq, :line, seq, 'h' || seq - 1, 'Change it', '{}', '{}'
    FROM generate_series(:seq + 1, :seq + 10000) AS seq
"""
MANY_BRANCHES = """
    WITH opened AS (
        INSERT INTO lake.lines (parent_line, parent_seq)
        SELECT :line, seq
        FROM generate_series(:seq, :seq + 9999) AS seq
        RETURNING id, parent_seq
    )
    INSERT INTO lake.commits (hash, line, seq, message, authors, properties)
    SELECT 'b' || id, id, parent_seq + 1, 'Change it', '{}', '{}'
    FROM opened
"""
LONG_OPERATIONS = """
    INSERT INTO lake.operations (line, seq, key, content)
    SELECT line, seq, ARRAY['shop', 'gold', 't' || seq % 20], jsonb_build_object(
        'type', 'ICEBERG_TABLE', 'metadata_location', hash, 'id', 'x'
    )
    FROM lake.commits
    WHERE seq > :seq
"""


@pytest.mark.parametrize(
    "key", [("shop",), SALES, ("shop", "gold", "t1"), ("shop", "gold", "no")]
)
def test_a_key_is_found_at_once_in_a_long_history(
    refs: EmbeddedRefs, metadata: Metadata, key: Key
) -> None:
    publish_table(refs, ORDERS)
    publish_table(refs, SALES)
    with metadata.engine.begin() as tx:
        line, seq = tx.execute(text(MAIN_POSITION)).one()
        end = {"line": line, "seq": seq}
        tx.execute(text(LONG_HISTORY), end)
        tx.execute(text(MANY_BRANCHES), end)
        tx.execute(text(LONG_OPERATIONS), end)
        tx.execute(text("ANALYZE lake.operations"))

    with metadata.engine.connect() as tx:
        wanted = {"lines": [line], "highs": [seq + 10000], "keys": [encode_key(key)]}
        explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {CONTENTS.text}"
        plan = tx.execute(text(explain), wanted).scalar_one()[0]["Plan"]

    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 20


# A model: branches as plain dictionaries, merges as set algebra, a few hundred random steps.

KEYS: tuple[Key, ...] = tuple(("shop", "gold", name) for name in "abcd")
BRANCHES = (MAIN, "one", "two", "three")
Tables = dict[Key, IcebergTable]


@dataclass
class ModelCommit:
    """A commit as the whole map of what it holds, with all that it descends from."""

    tables: Tables
    ancestors: frozenset[str]


@dataclass
class Model:
    """What the keeper should hold."""

    commits: dict[str, ModelCommit] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)

    def add(self, branch: str, made: str, tables: Tables, *parents: str) -> None:
        """Put a commit on a branch."""
        above = (self.commits[parent].ancestors | {parent} for parent in parents)
        self.commits[made] = ModelCommit(tables, frozenset().union(*above))
        self.heads[branch] = made

    def tables(self, branch: str) -> Tables:
        """What a branch holds."""
        return self.commits[self.heads[branch]].tables

    def bases(self, source: str, target: str) -> set[str]:
        """The common ancestors that are no ancestors of another."""
        one, other = self.heads[source], self.heads[target]
        common = ({one} | self.commits[one].ancestors) & (
            {other} | self.commits[other].ancestors
        )
        return {
            commit
            for commit in common
            if not any(commit in self.commits[c].ancestors for c in common)
        }


def merge_tables(base: Tables, ours: Tables, theirs: Tables) -> Tables | None:
    """A merge of whole maps, or None where both sides changed one key differently."""
    merged = dict(ours)
    for key in KEYS:
        before, mine, yours = base.get(key), ours.get(key), theirs.get(key)
        if yours in (before, mine):
            continue
        if mine != before:
            return None
        merged.pop(key, None)
        if yours is not None:
            merged[key] = yours
    return merged


@pytest.mark.parametrize("seed", range(6))
def test_random_histories_agree_with_a_plain_model(
    refs: EmbeddedRefs, seed: int
) -> None:
    dice = random.Random(seed)  # noqa: S311 - nobody guesses it
    refs.commit(MAIN, make_namespaces(), message="Make the layers")
    model = Model()
    model.add(MAIN, refs.head(MAIN), {})
    for name in BRANCHES[1:]:
        refs.create(name)
        model.heads[name] = model.heads[MAIN]

    for step in range(120):
        branch = dice.choice(BRANCHES)
        if dice.random() < 0.5:
            step_commit(refs, model, branch, dice=dice, step=step)
        else:
            others = [name for name in BRANCHES if name != branch]
            step_merge(refs, model, branch, into=dice.choice(others))

    for name in BRANCHES:
        check_branch(refs, model, name)
    for commit, expected in model.commits.items():
        assert refs.contents(KEYS, at=f"@{commit}") == expected.tables


def step_commit(
    refs: EmbeddedRefs, model: Model, branch: str, *, dice: random.Random, step: int
) -> None:
    tables = dict(model.tables(branch))
    key = dice.choice(KEYS)
    operation: Operation
    if key in tables and dice.random() < 0.3:
        operation = Delete(key, expected=tables.pop(key))
    elif key in tables:
        operation = Put(key, replace(tables[key], metadata_location=str(step)))
    else:
        operation = Put(key, IcebergTable(str(step)))

    made = refs.commit(branch, [operation], message=f"Step {step}")

    for put, content in made.contents.items():
        assert isinstance(content, IcebergTable)
        tables[put] = content
    model.add(branch, made.hash, tables, model.heads[branch])


def step_merge(refs: EmbeddedRefs, model: Model, source: str, *, into: str) -> None:
    ours, theirs = model.tables(into), model.tables(source)
    bases = model.bases(source, into)
    asked = refs.merge(source, into=into, dry_run=True)
    head = refs.head(into)

    try:
        told = refs.merge(source, into=into)
    except MergeConflictError:
        told = None

    # Where both sides merged each other, several ancestors are as good as one another.
    assert asked.common_ancestor in bases
    expected = merge_tables(model.commits[asked.common_ancestor].tables, ours, theirs)
    assert asked.was_successful == (told is not None) == (expected is not None)
    assert not asked.was_applied
    if told is None or expected is None or not told.was_applied:
        assert refs.head(into) == head
        assert expected in (None, ours)
    else:
        model.add(into, told.hash, expected, model.heads[into], model.heads[source])


def check_branch(refs: EmbeddedRefs, model: Model, name: str) -> None:
    tables = {
        entry.key: entry.content
        for entry in refs.entries(at=name)
        if isinstance(entry.content, IcebergTable)
    }
    assert refs.head(name) == model.heads[name]
    assert tables == model.tables(name)
    for other in BRANCHES:
        theirs = model.tables(other)
        differing = {k for k in KEYS if tables.get(k) != theirs.get(k)}
        assert {d.key for d in refs.diff(name, after=other)} == differing
