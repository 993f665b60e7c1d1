"""Where the checkpoint comes from, and under which licence."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from llmjp_builder.contracts.constraints import Length, Matches
from llmjp_builder.contracts.spec import to_canonical_json
from llmjp_operator.api.field_types import CelRule, DataKey, ObjectName
from llmjp_operator.names import compute_digest


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSecret:
    """A key of a Secret that holds a Hugging Face token."""

    name: ObjectName
    """Name of a Secret in the model's namespace."""
    key: DataKey = "token"
    """Key in the Secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateSecret:
    """A key of a Secret that holds PEM certificates."""

    name: ObjectName
    """Name of a Secret in the model's namespace."""
    key: DataKey = "ca.crt"
    """Key in the Secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HuggingFace:
    """A repository on the Hugging Face hub, or on a mirror."""

    repository: Annotated[
        str,
        Length(3, 200),
        Matches(
            r"^[A-Za-z0-9][-A-Za-z0-9._]*/[A-Za-z0-9][-A-Za-z0-9._]*$",
            "must be owner/name, such as llm-jp/llm-jp-3-13b-instruct3",
        ),
    ]
    """`owner/name`."""
    revision: Annotated[
        str,
        Length(1, 200),
        Matches(
            r"^[A-Za-z0-9][-A-Za-z0-9._/]*$",
            "must be a branch, a tag or a commit of the repository",
        ),
    ] = "main"
    """A branch, tag or commit. It is pinned to a commit (`status.source.revision`) when the model
    is created or its source changes."""
    token_secret_ref: TokenSecret | None = None
    """Access token for gated and private repositories. Only the Jobs that download can read it."""
    endpoint: (
        Annotated[
            str,
            Length(1, 500),
            Matches(
                r"^https?://[A-Za-z0-9][^ @]*$",
                "must be an http or https URL without a user, such as https://hub.example.com",
            ),
        ]
        | None
    ) = None
    """URL of a mirror; left out: https://huggingface.co."""
    ca_secret_ref: CertificateSecret | None = None
    """Certificate authorities to trust besides the public ones, for a mirror with its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersistentVolumeClaim:
    """A folder on an existing volume; it is only read."""

    claim_name: ObjectName
    """Name of a claim in the model's namespace."""
    path: Annotated[
        str,
        Length(0, 500),
        Matches(
            r"^([^/.][^/]*|[.][^/.][^/]*)?(/([^/.][^/]*|[.][^/.][^/]*))*/?$",
            "must be a folder inside the claim: no slash in front, no . or .. in it",
        ),
    ] = ""
    """Folder with config.json, relative to the volume; empty: the volume's root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSource:
    """The Hugging Face checkpoint: exactly one of the two."""

    RULES: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            "has(self.huggingFace) != has(self.persistentVolumeClaim)",
            "exactly one source is needed: huggingFace or persistentVolumeClaim",
            reason="FieldValueRequired",
        ),
    )

    hugging_face: HuggingFace | None = None
    """A repository to download and to verify against the hub's checksums."""
    persistent_volume_claim: PersistentVolumeClaim | None = None
    """A folder to read in place, without network access."""

    @property
    def reference_digest(self) -> str:
        """Digest of what is to be pinned: a change pins again."""
        hub, volume = self.hugging_face, self.persistent_volume_claim
        reference: dict[str, str | None] = {}
        if hub is not None:
            reference = {
                "repository": hub.repository,
                "revision": hub.revision,
                "endpoint": hub.endpoint,
            }
        elif volume is not None:
            reference = {"claim": volume.claim_name, "path": volume.path}
        given = {name: value for name, value in reference.items() if value is not None}
        return compute_digest(to_canonical_json(given))

    def __post_init__(self) -> None:
        if (self.hugging_face is None) == (self.persistent_volume_claim is None):
            raise ValueError(self.RULES[0].sentence)


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenceAcceptance:
    """Acceptance of the model's licence."""

    accepted: (
        Annotated[
            str,
            Length(1, 100),
            Matches(
                r"^[A-Za-z0-9][-A-Za-z0-9._+]*$",
                "must be the identifier of a licence, such as llm-jp-3-172b-instruct3-tou",
            ),
        ]
        | None
    ) = None
    """Identifier of the licence that you read and accept. Models with terms of their own
    (llm-jp-3-172b, except alpha1 and alpha2) require it: until then the phase is Blocked, the
    message names the terms and their address, and nothing is downloaded."""
