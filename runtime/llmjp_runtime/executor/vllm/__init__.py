"""The executor `vllm`: vLLM's asyncio engine, whose core is a process of its own."""
