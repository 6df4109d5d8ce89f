"""Session state that belongs to a transaction: a pooler gives each transaction another session.

What others say once a connection (`SET search_path`, the startup parameter `options`) a pooler in
transaction mode refuses, forgets or gives to strangers. Here each statement says it for itself,
in the same message to the server: no round trip more, and nothing is left behind.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import psycopg2.extensions
from psycopg2 import sql

# What begins and ends transactions; an aborted one hears nothing else.
CONTROL = re.compile(
    r"\s*(BEGIN|START|COMMIT|END|ROLLBACK|ABORT|SAVEPOINT|RELEASE)\b", re.IGNORECASE
)
# It refuses to run beside another statement; without it an index locks out writers for a moment.
CONCURRENTLY = re.compile(r"\b(INDEX)\s+CONCURRENTLY\b", re.IGNORECASE)


class LocalState(dict[str, str]):
    """Parameters of Postgres, and the cursors in whose statements they hold."""

    def prefixed(self, statement: str) -> str:
        """*statement* with the parameters in force for it."""
        if not self or CONTROL.match(statement):
            return statement
        said = "".join(f"SET LOCAL {name} = {value};" for name, value in self.items())
        return said + CONCURRENTLY.sub(r"\1", statement)

    def sent(
        self, query: str | bytes | sql.Composable, cursor: psycopg2.extensions.cursor
    ) -> str | bytes:
        """*query* as it goes to the server."""
        if isinstance(query, bytes):
            return self.prefixed(query.decode("latin-1")).encode("latin-1")
        if isinstance(query, sql.Composable):
            query = query.as_string(cursor)
        return self.prefixed(query)

    def cursor_class(self) -> type[psycopg2.extensions.cursor]:
        """What psycopg2 takes as `cursor_factory`."""
        state = self

        class Cursor(psycopg2.extensions.cursor):  # type: ignore[misc]
            """A cursor whose statements bring their session along."""

            def execute(
                self,
                query: str | bytes | sql.Composable,
                vars: Any = None,  # noqa: A002, ANN401 - psycopg2's own
            ) -> None:
                """Run *query* under the parameters."""
                super().execute(state.sent(query, self), vars)

            def executemany(
                self,
                query: str | bytes | sql.Composable,
                vars_list: Iterable[Mapping[str, Any] | tuple],
            ) -> None:
                """Run *query* once for each of *vars_list* under the parameters."""
                super().executemany(state.sent(query, self), vars_list)

        return Cursor
