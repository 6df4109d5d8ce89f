"""Backup: everything that RAT knows, at one moment, in one file; and a RAT made from it again.

That is Postgres, Dagster's tables too, and the branches, wherever they are kept. The store and the
warehouse are files already, and are backed up as files are. Taking one is `taking`, putting it back
`restoring`; what is in the file is `container`.
"""
