"""Where checkpoints come from: folders, and repositories of a hub.

`resolve` says what a source is without downloading weights, `fetch` brings it to this disk, and
`licence` knows which models' terms somebody must accept before. Nothing is imported here: the
operator takes `licence` alone.
"""
