"""Alerts: what publications said happened is what stands as events, and what is raised is not over.

Who is told of an event is nothing that follows from it alone, and is not compared.
"""

from rat_resources.audit.comparison import SOMEBODY, Comparison, Side, never
from rat_resources.audit.facts import STANDS

STATED = f"""
SELECT DISTINCT
    stated.event ->> 'dedupe_key' AS id,
    stated.event ->> 'severity' AS severity,
    stated.event -> 'payload' ->> 'title' AS title
FROM rat.publications AS publication
CROSS JOIN LATERAL jsonb_array_elements(publication.facts #> '{{alerts,events}}')
    AS stated(event)
WHERE {STANDS} AND jsonb_typeof(publication.facts -> 'alerts') = 'object'
"""

# What a run that stands is said to have raised or resolved.
TOLD = f"""
SELECT event.dedupe_key AS id, event.severity, event.payload ->> 'title' AS title
FROM trace.alert_events AS event
JOIN rat.publications AS publication
    ON publication.run_id::text = event.payload ->> 'run_id'
WHERE {STANDS}
    AND event.payload ->> 'kind' NOT IN ('system', 'chm')
    AND event.payload ->> 'state' <> 'test'
"""

# An event that is over, and still raised.
RAISED = """
SELECT state.event_id::text AS id, state.subject
FROM rat.alert_states AS state
JOIN trace.alert_events AS event ON event.id = state.event_id
WHERE event.payload ->> 'state' <> 'firing'
    OR EXISTS (
        SELECT FROM trace.alert_events AS over
        WHERE over.org_id = event.org_id AND over.dedupe_key = 'resolved:' || event.id
    )
"""

RESOLVED = """
SELECT event.id::text AS id, event.payload ->> 'resolves' AS resolves
FROM trace.alert_events AS event
WHERE event.payload ->> 'state' = 'resolved'
    AND NOT EXISTS (
        SELECT FROM trace.alert_events AS first
        WHERE first.org_id = event.org_id
            AND event.dedupe_key = 'resolved:' || first.id
            AND event.payload ->> 'resolves' = first.id::text
    )
"""

FIRED = """
SELECT event.dedupe_key AS id, run.status
FROM trace.alert_events AS event
JOIN chm.runs AS run ON 'chm:' || (event.payload ->> 'rule') || ':' || run.id = event.dedupe_key
WHERE event.payload ->> 'kind' = 'chm' AND run.status <> 'failed'
"""

COMPARISONS = (
    Comparison(
        "trace.alert_events",
        "every event that a publication states stands, and no other is of its run",
        Side("rat.publications", STATED),
        Side("trace.alert_events", TOLD),
        SOMEBODY,
    ),
    never(
        "rat.alert_states",
        "nothing is raised that is over",
        speaker="rat.alert_states",
        sql=RAISED,
        expected="an event that lasts",
        fix=SOMEBODY,
    ),
    never(
        "trace.resolved_events",
        "what says that an event is over names one that there is",
        speaker="trace.alert_events",
        sql=RESOLVED,
        expected="the event",
        fix=SOMEBODY,
    ),
    never(
        "trace.chm_events",
        "a rule of CHM's fired for runs that failed",
        speaker="trace.alert_events",
        sql=FIRED,
        expected="a run that failed",
        fix=SOMEBODY,
    ),
)
