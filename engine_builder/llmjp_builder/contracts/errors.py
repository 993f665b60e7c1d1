"""Errors that the builder raises on purpose.

    BuilderError                      exit code  code in the termination message
    |-- InvalidSpec                   2          invalid_spec
    |-- BadInput                      3          bad_input
    |   |-- BadHeader                            bad_header
    |   |-- MissingFile                          missing_file
    |   |-- BadConfig                            bad_config
    |   |-- BadTensors                           bad_tensors
    |   |-- BadTexts                             bad_texts
    |   |-- SourceChanged                        source_changed
    |   |-- BadArtefact                          bad_artefact
    |   |-- OutputExists                         output_exists
    |   |-- DiskFailed                           disk_failed
    |   |-- CheckpointRejected                   checkpoint_rejected
    |   |-- MissingRepository                    missing_repository
    |   |-- CorruptDownload                      corrupt_download
    |   `-- HubFailed                            hub_failed
    |       `-- HubUntrusted                     hub_untrusted
    |-- NotEnoughDisk                 4          not_enough_disk
    |-- NotEnoughGpuMemory            4          not_enough_gpu_memory
    |-- NotEnoughHostMemory           4          not_enough_host_memory
    |-- AccessDenied                  5          not_permitted
    |   |-- LicenceNotAccepted                   licence_not_accepted
    |   |-- GatedRepository                      gated_repository
    |   `-- BadToken                             bad_token
    |-- UnsupportedRequest            6          unsupported
    |   |-- GpuMissing                           gpu_missing
    |   |-- UnsupportedGpu                       unsupported_gpu
    |   |-- CompilerMissing                      compiler_missing
    |   `-- VersionMismatch                      version_mismatch
    |-- BuildTerminated               143        terminated
    `-- CompileFailed                 1          compile_failed
        |-- CompileKilled                        compile_killed
        `-- CompileTimedOut                      compile_timed_out

Every message is one line: what is wrong, where, what was expected and found, what to do. Control
characters in names that come from files are escaped.
"""

from __future__ import annotations

from typing import ClassVar

_MAX_MESSAGE = 1500
"""Characters; names inside damaged files may be of any length."""


class BuilderError(Exception):
    """Base of all errors raised on purpose; never raised itself."""

    exit_code: ClassVar[int] = 1
    """Exit code of the process."""
    code: ClassVar[str] = "internal"
    """A stable word for programs (`Failure.code`)."""
    retryable: ClassVar[bool] = False
    """The same build may succeed later, with spec and source unchanged."""

    def __init__(self, message: str) -> None:
        shown = "".join(c if c.isprintable() else _escape(c) for c in message[:_MAX_MESSAGE])
        super().__init__(shown)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


class BuildTerminated(BuilderError):
    """The process was asked to stop; nothing is wrong with its work."""

    exit_code = 143
    code = "terminated"
    retryable = True


class InvalidSpec(BuilderError):
    """A build spec or an option has a value that no checkpoint could satisfy."""

    exit_code = 2
    code = "invalid_spec"


class BadInput(BuilderError):
    """An input file is not what it claims to be."""

    exit_code = 3
    code = "bad_input"


class BadHeader(BadInput):
    """A safetensors file with an impossible header, or shorter than its header says."""

    code = "bad_header"


class MissingFile(BadInput):
    """A required file is missing."""

    code = "missing_file"


class BadConfig(BadInput):
    """A JSON file of the checkpoint is malformed, or lacks what is needed."""

    code = "bad_config"


class BadTensors(BadInput):
    """The checkpoint's tensors are not those its config.json describes."""

    code = "bad_tensors"


class BadTexts(BadInput):
    """A file of calibration texts that is not UTF-8, or is empty."""

    code = "bad_texts"


class SourceChanged(BadInput):
    """A source file was modified while it was read."""

    code = "source_changed"
    retryable = True


class BadArtefact(BadInput):
    """A folder that is an incomplete or damaged artefact, or none at all."""

    code = "bad_artefact"


class CheckpointMissing(BadArtefact):
    """The checkpoint to compile is not in the store, or damaged: it can be made again."""

    code = "checkpoint_missing"
    retryable = True


class OutputExists(BadInput):
    """The output path exists already; nothing there was touched."""

    code = "output_exists"


class DiskFailed(BadInput):
    """The operating system could not read or write."""

    code = "disk_failed"
    retryable = True


class CheckpointRejected(BadInput):
    """TensorRT-LLM refuses to load the checkpoint that is to be compiled."""

    code = "checkpoint_rejected"


class MissingRepository(BadInput):
    """The hub has no such repository, revision or file."""

    code = "missing_repository"


class CorruptDownload(BadInput):
    """A download is not what the hub announced; it was removed."""

    code = "corrupt_download"
    retryable = True


class HubFailed(BadInput):
    """The hub could not be reached, gave no usable answer, or stopped sending, for too long."""

    code = "hub_failed"
    retryable = True


class HubUntrusted(HubFailed):
    """The certificate of the hub, or of a host it redirects to, is not trusted here."""

    code = "hub_untrusted"
    retryable = False


class NotEnoughDisk(BuilderError):
    """The result does not fit on the disk."""

    exit_code = 4
    code = "not_enough_disk"
    retryable = True


class NotEnoughGpuMemory(BuilderError):
    """An engine of one rank cannot be built in the memory of one GPU."""

    exit_code = 4
    code = "not_enough_gpu_memory"


class NotEnoughHostMemory(BuilderError):
    """The machine, or this container's limit, has too little memory."""

    exit_code = 4
    code = "not_enough_host_memory"


class AccessDenied(BuilderError):
    """Access is denied: by the operating system, a hub, or a model's terms."""

    exit_code = 5
    code = "not_permitted"


class LicenceNotAccepted(AccessDenied):
    """The model has its own terms, and they were not accepted."""

    code = "licence_not_accepted"


class GatedRepository(AccessDenied):
    """The hub gives the files only to accounts that were granted access."""

    code = "gated_repository"


class BadToken(AccessDenied):
    """The hub rejects the access token, or needs one and has none."""

    code = "bad_token"


class UnsupportedRequest(BuilderError):
    """A valid request that this builder cannot serve."""

    exit_code = 6
    code = "unsupported"


class GpuMissing(UnsupportedRequest):
    """Compiling needs a working NVIDIA GPU; there is none."""

    code = "gpu_missing"


class UnsupportedGpu(UnsupportedRequest):
    """These GPUs cannot run the requested engine."""

    code = "unsupported_gpu"


class CompilerMissing(UnsupportedRequest):
    """TensorRT-LLM, or its `trtllm-build`, is not installed here."""

    code = "compiler_missing"


class VersionMismatch(UnsupportedRequest):
    """TensorRT-LLM, TensorRT and the driver do not fit each other, or not the request."""

    code = "version_mismatch"


class CompileFailed(BuilderError):
    """`trtllm-build` failed for a reason that its log does not tell."""

    code = "compile_failed"


class CompileKilled(CompileFailed):
    """`trtllm-build` was killed from outside."""

    code = "compile_killed"
    retryable = True


class CompileTimedOut(CompileFailed):
    """`trtllm-build` exceeded its time limit."""

    code = "compile_timed_out"
    retryable = True
