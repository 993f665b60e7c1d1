"""Where checkpoints come from: folders, and repositories of a hub.

`resolve` says what a source is without downloading weights, `fetch` brings it to this disk, and
`licence` knows which models' terms somebody must accept before.
"""

from llmjp_builder.sources.fetch import FetchedSource, fetch
from llmjp_builder.sources.licence import Licence, licence_of
from llmjp_builder.sources.resolve import ResolvedSource, parse_source, resolve

__all__ = [
    "FetchedSource",
    "Licence",
    "ResolvedSource",
    "fetch",
    "licence_of",
    "parse_source",
    "resolve",
]
