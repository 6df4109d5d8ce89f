"""What people ask of alerts, as functions with an as_of. Safe: functions; the SQL file beside this one."""

import re
from pathlib import Path

from alembic import op

revision = "0029_alert_questions"
down_revision = "0028_staleness"

FUNCTIONS = Path(__file__).with_suffix(".sql")
NAME = re.compile(r"^CREATE FUNCTION ([a-z_.]+)\(", re.MULTILINE)


def upgrade() -> None:
    """Create the functions."""
    op.get_bind().exec_driver_sql(FUNCTIONS.read_text())


def downgrade() -> None:
    """Drop them."""
    for name in reversed(NAME.findall(FUNCTIONS.read_text())):
        op.execute(f"DROP FUNCTION {name}")
