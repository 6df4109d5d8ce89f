"""Queries, data and changes made at random, to try what is said of the scope of a change."""

from dataclasses import dataclass, field
from random import Random

from duckdb import DuckDBPyConnection

TABLES = ("t", "u")
COLUMNS = ("a", "b", "c", "d")
SCOPES = {
    "a = 1": ("a",),
    "b >= 2 AND b < 4": ("b",),
    "a IN (0, 2) AND d = 'x'": ("a", "d"),
    "c > 6": ("c",),
    "d = 'y'": ("d",),
}


@dataclass
class Pipeline:
    """A query made of steps, each a CTE that reads tables and earlier steps."""

    random: Random
    columns: dict[str, list[str]] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)
    words: set[str] = field(default_factory=set)

    @property
    def sql(self) -> str:
        """The query."""
        return f"WITH {', '.join(self.steps)} FROM s{len(self.steps)}"


def make_pipeline(random: Random, *, steps: int) -> Pipeline:
    """A query of some steps, of which the last reads the one before."""
    made = Pipeline(random, {name: list(COLUMNS) for name in TABLES})
    source = "t"
    for number in range(1, steps + 1):
        make = random.choice(STEPS)
        name = f"s{number}"
        body, columns = make(made, source)
        made.words.add(make.__name__)
        made.steps.append(f"{name} AS ({body})")
        made.columns[name] = columns
        source = name
    return made


def any_of(made: Pipeline, relation: str) -> str:
    return made.random.choice(made.columns[relation])


def some_of(made: Pipeline, relation: str, *, least: int = 1) -> list[str]:
    columns = made.columns[relation]
    chosen = made.random.randint(min(least, len(columns)), len(columns))
    picked = made.random.sample(columns, chosen)
    return [each for each in columns if each in picked]


def condition(made: Pipeline, relation: str) -> str:
    column = any_of(made, relation)
    return made.random.choice(
        [
            f"{column}::VARCHAR > '1'",
            f"{column} IS NOT NULL",
            f"hash({column}) % 3 > 0",
            f"{column}::VARCHAR IN ('0', '1', 'x', '3')",
        ]
    )


def expression(made: Pipeline, relation: str) -> str:
    column = any_of(made, relation)
    return made.random.choice(
        [
            column,
            f"hash({column}) % 3",
            f"CASE WHEN {condition(made, relation)} THEN 1 ELSE 2 END",
            f"coalesce({column}::VARCHAR, 'x')",
            f"len({column}::VARCHAR)",
        ]
    )


def another(made: Pipeline, source: str) -> str:
    return made.random.choice([each for each in made.columns if each != source])


def renamed(columns: list[str], *, like: str = "x") -> list[str]:
    return [f"{like}{number}" for number in range(len(columns))]


def choose_rows(made: Pipeline, source: str) -> tuple[str, list[str]]:
    columns = some_of(made, source)
    return (
        f"SELECT {', '.join(columns)} FROM {source} WHERE {condition(made, source)}",
        columns,
    )


def compute(made: Pipeline, source: str) -> tuple[str, list[str]]:
    kept = some_of(made, source)
    new = "n" + any_of(made, source)
    kept = [each for each in kept if each != new]
    return (
        f"SELECT {', '.join([*kept, f'{expression(made, source)} AS {new}'])} FROM {source}",
        [*kept, new],
    )


def leave_out(made: Pipeline, source: str) -> tuple[str, list[str]]:
    columns = made.columns[source]
    if len(columns) == 1:
        return f"FROM {source}", columns
    gone = any_of(made, source)
    return (
        f"SELECT * EXCLUDE ({gone}) FROM {source}",
        [each for each in columns if each != gone],
    )


def group(made: Pipeline, source: str) -> tuple[str, list[str]]:
    keys = [each for each in some_of(made, source)[:3] if each not in ("n", "m", "s")]
    if not keys:
        return distinct(made, source)
    value = any_of(made, source)
    items = [
        *keys,
        "count(*) AS n",
        f"max({value}) AS m",
        f"sum(hash({value}) % 7) AS s",
    ]
    body = f"SELECT {', '.join(items)} FROM {source}"
    if made.random.random() < 0.3:
        body += f" WHERE {condition(made, source)}"
    body += made.random.choice([" GROUP BY ALL", f" GROUP BY {', '.join(keys)}"])
    if made.random.random() < 0.3:
        body += " HAVING count(*) > 1"
    return body, [*keys, "n", "m", "s"]


def group_by_expression(made: Pipeline, source: str) -> tuple[str, list[str]]:
    return (
        f"SELECT {expression(made, source)} AS g, count(*) AS n, min({any_of(made, source)}) AS m "
        f"FROM {source} GROUP BY 1",
        ["g", "n", "m"],
    )


def distinct(made: Pipeline, source: str) -> tuple[str, list[str]]:
    columns = some_of(made, source)
    return f"SELECT DISTINCT {', '.join(columns)} FROM {source}", columns


def latest(made: Pipeline, source: str) -> tuple[str, list[str]]:
    columns = made.columns[source]
    keys = ", ".join(some_of(made, source)[:2])
    return (
        f"SELECT * FROM {source} QUALIFY row_number() OVER "
        f"(PARTITION BY {keys} ORDER BY {', '.join(columns)}) = 1",
        columns,
    )


def number(made: Pipeline, source: str) -> tuple[str, list[str]]:
    columns = [each for each in made.columns[source] if each != "rn"]
    keys = ", ".join(some_of(made, source)[:2])
    return (
        f"SELECT {', '.join(columns)}, row_number() OVER w AS rn FROM {source} "
        f"WINDOW w AS (PARTITION BY {keys} ORDER BY {', '.join(made.columns[source])})",
        [*columns, "rn"],
    )


def first_rows(made: Pipeline, source: str) -> tuple[str, list[str]]:
    columns = made.columns[source]
    keys = ", ".join(some_of(made, source)[:2])
    kept = [each for each in columns if each != "rn"]
    return (
        f"SELECT {', '.join(kept)} FROM (SELECT {', '.join(kept)}, row_number() OVER "
        f"(PARTITION BY {keys} ORDER BY {', '.join(columns)}) AS rn FROM {source}) AS ranked "
        "WHERE rn = 1",
        kept,
    )


def join(made: Pipeline, source: str) -> tuple[str, list[str]]:
    other = another(made, source)
    kind = made.random.choice(
        ["JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]
    )
    first, second = (source, other) if made.random.random() < 0.5 else (other, source)
    mine, theirs = some_of(made, first)[:3], some_of(made, second)[:2]
    on = f"l.{any_of(made, first)}::VARCHAR = r.{any_of(made, second)}::VARCHAR"
    if made.random.random() < 0.3:
        on += f" AND hash(r.{any_of(made, second)}) % 4 > 0"
    names = [*renamed(mine, like="l"), *renamed(theirs, like="r")]
    items = [f"l.{each}" for each in mine] + [f"r.{each}" for each in theirs]
    listed = ", ".join(f"{i} AS {n}" for i, n in zip(items, names, strict=True))
    return (
        f"SELECT {listed} FROM {first} AS l {kind} {second} AS r ON {on}",
        names,
    )


def join_using(made: Pipeline, source: str) -> tuple[str, list[str]]:
    shared = [each for each in made.columns[source] if each in ("a", "b", "c")]
    if not shared:
        return distinct(made, source)
    key = made.random.choice(shared)
    kind = made.random.choice(["JOIN", "LEFT JOIN"])
    mine = made.columns[source]
    if "d" in mine and key != "d":
        new = "c" if key != "c" else "b"
        return (
            (
                f"SELECT {source}.*, other.{new} AS o FROM {source} {kind} u AS other USING ({key})",
                [*(each for each in mine if each != "o"), "o"],
            )
            if "o" not in mine
            else distinct(made, source)
        )
    return (
        f"SELECT {key}, count(*) AS n FROM {source} {kind} u AS other USING ({key}) GROUP BY {key}",
        [key, "n"],
    )


def half_join(made: Pipeline, source: str) -> tuple[str, list[str]]:
    other = another(made, source)
    kind = made.random.choice(["SEMI JOIN", "ANTI JOIN"])
    first, second = (source, other) if made.random.random() < 0.5 else (other, source)
    columns = some_of(made, first)
    listed = ", ".join(f"l.{each}" for each in columns)
    return (
        f"SELECT {listed} FROM {first} AS l {kind} {second} AS r "
        f"ON l.{any_of(made, first)}::VARCHAR = r.{any_of(made, second)}::VARCHAR",
        columns,
    )


def member(made: Pipeline, source: str) -> tuple[str, list[str]]:
    other = another(made, source)
    first, second = (source, other) if made.random.random() < 0.5 else (other, source)
    return (
        f"SELECT * FROM {first} WHERE {any_of(made, first)}::VARCHAR IN "
        f"(SELECT {any_of(made, second)}::VARCHAR FROM {second} WHERE {condition(made, second)})",
        made.columns[first],
    )


def together(made: Pipeline, source: str) -> tuple[str, list[str]]:
    other = another(made, source)
    count = min(len(made.columns[source]), len(made.columns[other]), 3)
    word = made.random.choice(
        ["UNION ALL", "UNION ALL", "UNION", "EXCEPT", "INTERSECT"]
    )
    names = renamed(made.columns[source][:count])
    sides = [
        "SELECT "
        + ", ".join(
            f"{c}::VARCHAR AS {n}"
            for c, n in zip(made.columns[each], names, strict=False)
        )
        + f" FROM {each}"
        for each in (source, other)
    ]
    return f" {word} ".join(sides), names


def nested(made: Pipeline, source: str) -> tuple[str, list[str]]:
    columns = some_of(made, source)
    return (
        f"SELECT * FROM (SELECT {', '.join(columns)} FROM {source}) AS inside "
        f"WHERE {made.random.choice(columns)} IS NOT NULL",
        columns,
    )


STEPS = (
    choose_rows,
    compute,
    leave_out,
    group,
    group,
    group_by_expression,
    distinct,
    latest,
    number,
    first_rows,
    join,
    join,
    join_using,
    half_join,
    member,
    together,
    nested,
)


def make_tables(connection: DuckDBPyConnection, random: Random, *, rows: int) -> None:
    """Two tables with NULLs and duplicates."""
    for name in TABLES:
        connection.execute(
            f"CREATE OR REPLACE TABLE {name} (a INTEGER, b INTEGER, c INTEGER, d VARCHAR)"
        )
        values = ", ".join(row(random) for _ in range(rows))
        connection.execute(f"INSERT INTO {name} VALUES {values}")


def row(random: Random) -> str:
    values = [random.choice(["NULL", *map(str, range(most))]) for most in (4, 5, 9)]
    return f"({', '.join(values)}, {random.choice(['NULL', repr('x'), repr('y'), repr('z')])})"


def change(connection: DuckDBPyConnection, random: Random, *, scope: str) -> None:
    """Delete, change and add rows of t for which the scope holds before and after."""
    connection.execute("CREATE OR REPLACE TABLE t_old AS FROM t")
    for _ in range(random.randint(1, 3)):
        which = f"hash(rowid + {random.randrange(1000)}) % 3 = 0"
        column, value = random.choice(
            [
                ("a", "2"),
                ("b", "3"),
                ("c", "c + 1"),
                ("d", "'x'"),
                ("a", "NULL"),
                ("c", "8"),
            ]
        )
        connection.execute(
            random.choice(
                [
                    f"DELETE FROM t WHERE {scope} AND {which}",
                    f"INSERT INTO t FROM (SELECT a, (b + 1) % 5, c, d FROM u) AS n(a, b, c, d) WHERE {scope}",
                    f"INSERT INTO t SELECT * FROM t_old WHERE {scope} AND {which}",
                ]
            )
        )
        # An update may carry a row out of the scope: that is a change outside of it.
        connection.execute(
            f"CREATE OR REPLACE TABLE moved AS SELECT rowid AS id, * "
            f"REPLACE (({value}) AS {column}) FROM t WHERE {scope} AND {which}"
        )
        connection.execute(f"DELETE FROM moved WHERE ({scope}) IS NOT TRUE")
        connection.execute("DELETE FROM t WHERE rowid IN (SELECT id FROM moved)")
        connection.execute("INSERT INTO t SELECT a, b, c, d FROM moved")
