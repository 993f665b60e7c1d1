"""Every rule of the custom resource, with a spec that passes it and one that breaks it alone."""

from __future__ import annotations

from tests.operator.crd.rule_case import (
    CLAIM,
    GPU,
    OBJECT_NAME,
    QUANTITY,
    RuleCase,
    engine,
    hugging_face,
    sized,
    storage,
    volume,
)
from tests.operator.crd.serving_rule_cases import SERVING

SOURCE = (
    RuleCase(
        "spec.source",
        "exactly one source is needed: huggingFace or persistentVolumeClaim",
        volume(),
        {"source": {"persistentVolumeClaim": {"claimName": "weights"}}},
    ),
    RuleCase(
        "spec.source.huggingFace.repository",
        "must be owner/name, such as llm-jp/llm-jp-3-13b-instruct3",
        hugging_face("Example/Llama_3.1-8b"),
        hugging_face("example/llama/main"),
    ),
    RuleCase(
        "spec.source.huggingFace.revision",
        "must be a branch, a tag or a commit of the repository",
        hugging_face(revision="refs/pr/1"),
        hugging_face(revision="--upload"),
    ),
    RuleCase(
        "spec.source.huggingFace.endpoint",
        "must be an http or https URL without a user, such as https://hub.example.com",
        hugging_face(endpoint="http://10.0.0.1:8080/hub"),
        hugging_face(endpoint="https://user@hub.example.com"),
    ),
    RuleCase(
        "spec.source.huggingFace.tokenSecretRef.name",
        OBJECT_NAME,
        hugging_face(tokenSecretRef={"name": "hf.token-1"}),
        hugging_face(tokenSecretRef={"name": "hf_token"}),
    ),
    RuleCase(
        "spec.source.huggingFace.caSecretRef.key",
        "must be a key of a Secret or ConfigMap: letters, digits, dashes, dots and underscores",
        hugging_face(caSecretRef={"name": "ca", "key": "Root_1.pem"}),
        hugging_face(caSecretRef={"name": "ca", "key": "../root.pem"}),
    ),
    RuleCase(
        "spec.source.persistentVolumeClaim.path",
        "must be a folder inside the claim: no slash in front, no . or .. in it",
        volume(path="models/.hidden/llm-jp-3-13b/"),
        volume(path="models/../../etc"),
    ),
    RuleCase(
        "spec.licence.accepted",
        "must be the identifier of a licence, such as llm-jp-3-172b-instruct3-tou",
        {"licence": {"accepted": "Apache-2.0"}},
        {"licence": {"accepted": "yes, all of it"}},
    ),
)

HARDWARE = (
    RuleCase(
        "spec.hardware.gpuProduct",
        "must be the value of a label: letters, digits, dashes, dots and underscores",
        {"hardware": {"gpuProduct": "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb"}},
        {"hardware": {"gpuProduct": "NVIDIA H100"}},
    ),
    RuleCase(
        "spec.hardware.gpuProduct",
        "backend tensorrt needs gpuProduct: an engine runs only on the kind of GPU that it was "
        "built on",
        {"hardware": None, "engine": {"backend": "vllm"}},
        {"hardware": None},
    ),
    RuleCase(
        "spec.engine.quantization",
        "gpuProduct is a GPU without FP8 arithmetic, which came with Ada (L4, L40S) and Hopper "
        "(H100, H200): quantization must be none",
        {"hardware": {"gpuProduct": "NVIDIA-L40S"}} | engine(quantization="fp8"),
        {"hardware": {"gpuProduct": "NVIDIA-A100-SXM4-80GB"}} | engine(quantization="fp8"),
    ),
)

ENGINE = (
    RuleCase(
        "spec.engine.kvCache",
        "kvCache fp8 needs quantization fp8: without it, attention over prompts loses paging, and "
        "with it reuse of the cache",
        engine(kvCache="fp8", quantization="fp8"),
        engine(kvCache="fp8"),
    ),
    RuleCase(
        "spec.engine.calibration",
        "calibration needs quantization fp8: nothing else is measured",
        engine(calibration={"configMapRef": {"name": "texts"}}, quantization="fp8"),
        engine(calibration={"configMapRef": {"name": "texts"}}),
    ),
    RuleCase(
        "spec.engine.padIntermediate",
        "padIntermediate must be 0, which pads nothing, or a multiple of 16",
        engine(padIntermediate=128),
        engine(padIntermediate=8),
    ),
    RuleCase(
        "spec.engine.padIntermediate",
        "backends pytorch and vllm divide the model themselves: leave padIntermediate out",
        engine(backend="torch", padIntermediate=16),
        engine(backend="vllm", padIntermediate=16),
    ),
    RuleCase(
        "spec.engine.tensorParallel",
        "tensorParallel x pipelineParallel must be at most 256",
        engine(tensorParallel=16, pipelineParallel=16),
        engine(tensorParallel=16, pipelineParallel=17),
    ),
    RuleCase(
        "spec.engine.maxInputLen",
        "maxInputLen must be less than maxSeqLen, which is prompt and reply together",
        engine(maxInputLen=4095),
        engine(maxInputLen=4096),
    ),
    RuleCase(
        "spec.engine.options",
        "options are those of trtllm-build: only backend tensorrt takes them",
        engine(options={"gemm_plugin": "auto", "fast_build": "true", "tokens_per_block": 64}),
        engine(backend="pytorch", options={"gemm_plugin": "auto"}),
    ),
    RuleCase(
        "spec.engine.options",
        "maxBatchSize, maxInputLen and maxSeqLen are fields of spec.engine, not options",
        engine(options={"max_num_tokens": 8192}),
        engine(options={"max_batch_size": 8}),
    ),
    RuleCase(
        "spec.engine.options",
        "options must not name files, workers or logs: the builder decides them",
        engine(options={"max_beam_width": 1}),
        engine(options={"output_dir": "/etc"}),
    ),
    RuleCase(
        "spec.engine.options",
        "options are spelled as trtllm-build has them, without dashes in front: gemm_plugin",
        engine(options={"gemm_plugin": "auto"}),
        engine(options={"--gemm_plugin": "auto"}),
    ),
)

FAMILY = (
    *(
        RuleCase(
            "spec.engine.tensorParallel",
            f"for llm-jp-3-{size} tensorParallel must be {allowed}: it divides {heads} attention "
            f"heads and an MLP of {width}",
            sized(f"{size}-instruct3", largest),
            sized(size, 3),
        )
        for size, allowed, largest, heads, width in (
            ("150m", "1, 2, 4 or 8", 8, 8, 2048),
            ("440m", "1, 2, 4 or 8", 8, 8, 3584),
            ("980m", "1, 2, 4 or 8", 8, 8, 5376),
            ("1.8b", "1, 2, 4, 8 or 16", 16, 16, 7168),
            ("3.7b", "1, 2, 4 or 8", 8, 24, 8192),
            ("7.2b", "1, 2, 4, 8, 16 or 32", 32, 32, 11008),
            ("13b", "1, 2, 4 or 8", 8, 40, 13824),
            ("172b", "1, 2, 4, 8, 16 or 32", 32, 96, 38464),
        )
    ),
    RuleCase(
        "spec.engine.tensorParallel",
        "for llm-jp-3-172b in FP8 tensorParallel must be 1, 2 or 4, as FP8 takes widths that are "
        "multiples of 16; for more GPUs use pipelineParallel, or padIntermediate 16",
        sized("172b-instruct3", 8, quantization="fp8", padIntermediate=16),
        sized("172b-instruct3", 8, quantization="fp8"),
    ),
    RuleCase(
        "spec.engine.tensorParallel",
        "for llm-jp-3-7.2b in FP8 tensorParallel must be 1, 2, 4, 8 or 16, as FP8 takes widths "
        "that are multiples of 16; for more GPUs use pipelineParallel, or padIntermediate 16",
        sized("7.2b", 16, quantization="fp8", pipelineParallel=2),
        sized("7.2b", 32, quantization="fp8"),
    ),
)

BUILD_AND_STORAGE = (
    RuleCase(
        "spec.build.calibration.gpu",
        "calibration.gpu needs engine.quantization fp8: nothing else is measured",
        {"build": {"calibration": {"gpu": True}}} | engine(quantization="fp8"),
        {"build": {"calibration": {"gpu": True}}},
    ),
    RuleCase(
        "spec.build.resources.requests",
        GPU,
        {"build": {"resources": {"requests": {"cpu": 4, "memory": "1.5Ti"}}}},
        {"build": {"resources": {"requests": {"nvidia.com/gpu": 1}}}},
    ),
    RuleCase(
        "spec.build.resources.limits[memory]",
        QUANTITY,
        {"build": {"resources": {"limits": {"memory": "512Gi"}}}},
        {"build": {"resources": {"limits": {"memory": "512GB"}}}},
    ),
    RuleCase(
        "spec.storage",
        "either size, for a volume that is made, or existingClaim is needed, and not both",
        storage(**CLAIM),
        storage(size="1Ti", **CLAIM),
    ),
    RuleCase(
        "spec.storage.existingClaim",
        "an existing claim has its storage class and access mode already: leave both out",
        storage(size=100_000_000_000, storageClassName="fast", accessMode="ReadWriteOnce"),
        storage(storageClassName="fast", **CLAIM),
    ),
    RuleCase(
        "spec.storage.onDelete",
        "an existing claim is never deleted by the operator: onDelete must be Retain",
        storage(size="1Ti", onDelete="Delete"),
        storage(onDelete="Delete", **CLAIM),
    ),
    RuleCase(
        "spec.storage.size",
        "size must be more than 0",
        storage(size="1"),
        storage(size="0Gi"),
    ),
    RuleCase(
        "spec.storage.size",
        "size can only grow: Kubernetes shrinks no volume",
        storage(size="2Ti"),
        storage(size="1000Gi"),
        before=storage(size="1Ti"),
    ),
    RuleCase(
        "spec.storage.existingClaim",
        "existingClaim cannot change: the engines that serve lie there; create a model of another "
        "name on the new volume",
        storage(keepEngines=5, **CLAIM),
        storage(existingClaim="other"),
        before=storage(**CLAIM),
    ),
    RuleCase(
        "spec.storage.storageClassName",
        "storageClassName cannot change: Kubernetes moves no volume to another class",
        storage(size="1Ti", storageClassName="fast"),
        storage(size="1Ti"),
        before=storage(size="1Ti", storageClassName="fast"),
    ),
    RuleCase(
        "spec.storage.accessMode",
        "accessMode cannot change: Kubernetes keeps a volume's access mode",
        storage(size="1Ti", accessMode="ReadWriteMany"),
        storage(size="1Ti", accessMode="ReadWriteOnce"),
        before=storage(size="1Ti"),
    ),
)

CASES = (*SOURCE, *HARDWARE, *ENGINE, *FAMILY, *BUILD_AND_STORAGE, *SERVING)
