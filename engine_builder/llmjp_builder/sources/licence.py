"""Licences of repositories' weights, and whether they must be accepted first.

Pure: a table and two functions. The table has what was known when it was written; the
repository's own page decides. Sources of its rows: the `license` fields of the model cards on the
hub, LICENSE of llm-jp-3-172b-beta1 and -instruct3, the gate texts of -beta1 and -instruct2, and for
-beta2 and the base model the list of llm-jp/awesome-japanese-llm, as their texts could not be read.
Where a text leaves it open, or was not read in full, `may_redistribute` is False.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from llmjp_builder.contracts.errors import LicenceNotAccepted


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenceTerms:
    """The terms that weights come with."""

    id: str
    """An SPDX identifier, or the name that the hub's `license_name` has or would have."""
    name: str
    url: str
    """Where the text is; empty where unknown."""
    needs_acceptance: bool
    """Nothing is downloaded before somebody accepts the terms."""
    may_redistribute: bool
    """Weights and what is made of them may be redistributed; False where that is unknown."""
    notice: str = ""
    """What a service operator has to know or pass on; empty where nothing is known."""


_HUB = "https://huggingface.co/llm-jp"

APACHE = LicenceTerms(
    id="Apache-2.0",
    name="Apache License 2.0",
    url="https://www.apache.org/licenses/LICENSE-2.0",
    needs_acceptance=False,
    may_redistribute=True,
)
UNKNOWN = LicenceTerms(
    id="unknown",
    name="not in llmjp-serving's table; see the repository's page",
    url="",
    needs_acceptance=False,
    may_redistribute=False,
)
BETA1 = LicenceTerms(
    id="llm-jp-3-172b-beta1-tou",
    name="LLM-jp-3 172B beta1 Terms of Use",
    url=f"{_HUB}/llm-jp-3-172b-beta1/blob/main/LICENSE",
    needs_acceptance=True,
    may_redistribute=True,
    notice=(
        "Use needs an individual permission. The terms must be part of the licence of every "
        "redistribution and of the terms of use of every service; modifications must be stated."
    ),
)
BETA2 = LicenceTerms(
    id="llm-jp-3-172b-beta2-tou",
    name="LLM-jp-3 172B beta2 Terms of Use",
    url=f"{_HUB}/llm-jp-3-172b-beta2",
    needs_acceptance=True,
    may_redistribute=False,
)
INSTRUCT2 = LicenceTerms(
    id="llm-jp-3-172b-instruct2-tou",
    name="LLM-jp-3 172B instruct2 Terms of Use",
    url=f"{_HUB}/llm-jp-3-172b-instruct2",
    needs_acceptance=True,
    may_redistribute=False,
    notice=(
        "Use needs an individual permission. Services may be offered; neither the model nor a "
        "modified version may be redistributed, nor offered so that users obtain the model itself."
    ),
)
INSTRUCT3 = LicenceTerms(
    id="llm-jp-3-172b-instruct3-tou",
    name="llm-jp-3-172b-instruct3 License Agreement",
    url=f"{_HUB}/llm-jp-3-172b-instruct3/blob/main/LICENSE",
    needs_acceptance=True,
    may_redistribute=False,
    notice=(
        "The agreement restricts what the model and its output may be used for, and covers "
        "derivatives: a quantised checkpoint or an engine may count as one."
    ),
)
BASE = LicenceTerms(
    id="llm-jp-3-172b-tou",
    name="LLM-jp-3 172B Terms of Use",
    url=f"{_HUB}/llm-jp-3-172b",
    needs_acceptance=True,
    may_redistribute=False,
)

_TABLE = (
    ("llm-jp/llm-jp-3-172b-alpha[12]*", APACHE),
    # Copies of the 172b models under other owners stay under the same terms.
    ("*/llm-jp-3-172b-beta1*", BETA1),
    ("*/llm-jp-3-172b-beta2*", BETA2),
    ("*/llm-jp-3-172b-instruct2*", INSTRUCT2),
    ("*/llm-jp-3-172b-instruct3*", INSTRUCT3),
    ("*/llm-jp-3-172b-alpha*", UNKNOWN),
    ("*/llm-jp-3-172b*", BASE),
    ("llm-jp/llm-jp-3-*", APACHE),
    ("llm-jp/llm-jp-3.1-*", APACHE),
    ("llm-jp/llm-jp-4-*", APACHE),
)
"""Patterns of `owner/name`, in lower case; the first that matches holds."""


def find_licence(repository: str) -> LicenceTerms:
    """Find the licence of a repository's weights; `UNKNOWN` where the table has none.

    Args:
        repository: `owner/name`, case-insensitive.
    """
    name = repository.lower()
    return next((licence for pattern, licence in _TABLE if fnmatchcase(name, pattern)), UNKNOWN)


def require_accepted(repository: str, accepted: str | None) -> LicenceTerms:
    """Return the licence of a repository, or raise if it must still be accepted.

    Args:
        repository: `owner/name`.
        accepted: id of the licence that somebody accepts.

    Raises:
        LicenceNotAccepted: it needs acceptance, and `accepted` is not its id.
    """
    licence = find_licence(repository)
    if licence.needs_acceptance and accepted != licence.id:
        instead = f"{accepted!r} was accepted, which is another one; " if accepted else ""
        raise LicenceNotAccepted(
            f"{repository}: nothing was downloaded, its terms must be accepted first: "
            f"{licence.name} ({licence.id}); {instead}read {licence.url} and, if you accept, pass "
            f"--accept-licence {licence.id}"
        )
    return licence
