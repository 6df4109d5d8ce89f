"""Maintenance: what keeps tables fast, planned first and then done, without changing a row.

`maintaining` goes over the tables, `plans` says what there is to do, `rounds` does it, `records`
remembers. Nothing here deletes a file: which ones nothing needs any more is for
`rat_resources.collection` to find.
"""
