"""Metadata: everything that RAT knows, in one Postgres."""
