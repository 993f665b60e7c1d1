"""Sources of checkpoints: folders, and repositories of a hub.

`pinning` resolves a source without downloading weights, `fetch` brings it to this disk, and
`licence` knows whose terms must be accepted first. Nothing is imported here: the operator takes
`licence` alone.
"""
