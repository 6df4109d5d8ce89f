"""External runs: what Airflow, dbt, cron and vendors' APIs say of their pipelines, in `chm.runs`.

Three doors: a partner's API (`partners`, `pages`, `sync`), JSON lines in a landing zone (`lines`,
`intake`), one run by hand. Behind each, an event is made sense of (`events`, `masking`) and recorded
by one upsert (`recording`). Launching it is `rat_assets.external_runs`.
"""
