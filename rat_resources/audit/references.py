"""References: a row that names another one has it.

Postgres keeps foreign keys itself, unless somebody told it not to; then a deleted row is missed here.
"""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import text

from rat_resources.audit.comparison import SOMEBODY, Comparison, Scene, never

AT_MOST = 1000  # of one key; where so many are missing, how many more does not matter

KEYS = text("""
    SELECT
        con.conname AS name,
        con.conrelid::regclass::text AS here,
        con.confrelid::regclass::text AS there,
        ARRAY(
            SELECT quote_ident(attname) FROM unnest(con.conkey) WITH ORDINALITY AS key(number, turn)
            JOIN pg_attribute ON attrelid = con.conrelid AND attnum = key.number ORDER BY turn
        ) AS columns,
        ARRAY(
            SELECT quote_ident(attname) FROM unnest(con.confkey) WITH ORDINALITY AS key(number, turn)
            JOIN pg_attribute ON attrelid = con.confrelid AND attnum = key.number ORDER BY turn
        ) AS keys
    FROM pg_constraint AS con
    JOIN pg_namespace AS schema ON schema.oid = con.connamespace
    WHERE con.contype = 'f'
        AND schema.nspname IN ('rat', 'lake', 'trace', 'chm', 'lakeflow')
    ORDER BY 2, 1
""")

MISSING = """
SELECT * FROM jsonb_to_recordset(CAST(:missing AS jsonb))
    AS missing(id text, "from" text, "column" text)
"""


def find_missing(scene: Scene) -> Mapping[str, Any]:
    """The rows that are named and are not there."""
    found = []
    for key in scene.tx.execute(KEYS).all():
        named = ", ".join(f"here.{column}" for column in key.columns)
        meets = " AND ".join(
            f"there.{there} = here.{here}"
            for here, there in zip(key.columns, key.keys, strict=True)
        )
        whole = " AND ".join(f"here.{column} IS NOT NULL" for column in key.columns)
        rows = scene.tx.execute(
            text(f"""
                SELECT DISTINCT concat_ws(' ', {named})
                FROM {key.here} AS here
                WHERE {whole} AND NOT EXISTS (SELECT FROM {key.there} AS there WHERE {meets})
                LIMIT {AT_MOST}
            """)
        )
        found += [
            {
                "id": f"{key.there} {row}",
                "from": key.here,
                "column": ", ".join(key.columns),
            }
            for row in rows.scalars()
        ]
    return {"missing": json.dumps(found)}


COMPARISONS: tuple[Comparison, ...] = (
    never(
        "references",
        "every row that another one names is there",
        speaker="a row that names it",
        sql=MISSING,
        expected="its table",
        fix=SOMEBODY,
        gather=find_missing,
    ),
)
