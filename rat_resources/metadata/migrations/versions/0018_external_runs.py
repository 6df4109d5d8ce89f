"""Runs of other people's pipelines on their way in, and the zone where they land.

Safe: only new tables, and a landing zone that nothing else names.
"""

from alembic import op

revision = "0018_external_runs"
down_revision = "0017_dashboards"

EXTERNAL_FILES = """
    CREATE TABLE rat.external_files (
        file_id UUID NOT NULL,
        lines INTEGER DEFAULT 0 NOT NULL,
        inserted INTEGER DEFAULT 0 NOT NULL,
        updated INTEGER DEFAULT 0 NOT NULL,
        unchanged INTEGER DEFAULT 0 NOT NULL,
        ignored INTEGER DEFAULT 0 NOT NULL,
        rejected INTEGER DEFAULT 0 NOT NULL,
        attempts INTEGER DEFAULT 0 NOT NULL,
        dagster_run_id TEXT,
        started_at TIMESTAMPTZ DEFAULT now() NOT NULL,
        finished_at TIMESTAMPTZ,
        CONSTRAINT pk_external_files PRIMARY KEY (file_id),
        CONSTRAINT fk_external_files_file_id
            FOREIGN KEY (file_id) REFERENCES rat.landing_files (id) ON DELETE CASCADE,
        CONSTRAINT ck_external_files_lines CHECK (lines >= 0)
    )
"""
REJECTED_EVENTS = """
    CREATE TABLE rat.rejected_events (
        id UUID DEFAULT gen_random_uuid() NOT NULL,
        source TEXT NOT NULL,
        line INTEGER NOT NULL,
        digest TEXT NOT NULL,
        reason TEXT NOT NULL,
        raw TEXT NOT NULL,
        file_id UUID,
        times INTEGER DEFAULT 1 NOT NULL,
        first_seen_at TIMESTAMPTZ DEFAULT now() NOT NULL,
        last_seen_at TIMESTAMPTZ DEFAULT now() NOT NULL,
        CONSTRAINT pk_rejected_events PRIMARY KEY (id),
        CONSTRAINT uq_rejected_events_source_line_digest UNIQUE (source, line, digest),
        CONSTRAINT fk_rejected_events_file_id
            FOREIGN KEY (file_id) REFERENCES rat.landing_files (id) ON DELETE SET NULL,
        CONSTRAINT ck_rejected_events_times CHECK (times > 0)
    )
"""
LAST_SEEN = """
    CREATE INDEX ix_rejected_events_last_seen_at ON rat.rejected_events (last_seen_at)
"""
NAMESPACE = """
    INSERT INTO rat.namespaces (name, description, created_by)
    VALUES ('chm', 'What other people''s pipelines tell of their runs', 'rat')
    ON CONFLICT (name) DO NOTHING
"""
ZONE = """
    INSERT INTO rat.landing_zones (namespace, name, description, archive)
    VALUES (
        'chm', 'external_runs',
        'Runs of pipelines that others run, a JSON object a line (.jsonl or .jsonl.gz)', true
    )
    ON CONFLICT (namespace, name) DO UPDATE SET active = true
"""


def upgrade() -> None:
    """Create the tables, and the zone with its namespace."""
    for statement in (EXTERNAL_FILES, REJECTED_EVENTS, LAST_SEEN, NAMESPACE, ZONE):
        op.execute(statement)


def downgrade() -> None:
    """Drop the tables; the zone's files and their history stay."""
    op.drop_table("rejected_events", schema="rat")
    op.drop_table("external_files", schema="rat")
    op.execute(
        "UPDATE rat.landing_zones SET active = false"
        " WHERE namespace = 'chm' AND name = 'external_runs'"
    )
