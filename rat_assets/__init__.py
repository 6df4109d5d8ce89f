"""What exists: pipelines as assets, their checks, the phases of a run, and the command line."""
