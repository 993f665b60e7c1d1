"""A stand-in for TensorRT-LLM's `trtllm-build`, for machines without a GPU. It builds no engines.

It takes the arguments of the real command (from a recording of its parser), refuses checkpoints as
the real loader does, and leaves files of the real names and shapes behind. Environment:

    LLMJP_STANDIN_ARGUMENTS   the recording (JSON); without it nothing works
    LLMJP_STANDIN_FAILURE     a name of `failures.FAILURES`: fail like that
    LLMJP_STANDIN_GPUS        number of GPUs there seem to be, 1 by default
    LLMJP_STANDIN_SM          their compute capability, 90 by default
    LLMJP_STANDIN_VERSION     the TensorRT-LLM it seems to be, 1.2.1 by default

Standard library only: it runs in any Python 3.11 or newer.
"""
