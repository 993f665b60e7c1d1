"""From a Hugging Face checkpoint of llm-jp-3 to an artefact that a server can load.

Entry points: `llmjp_builder.pipeline.build` (an artefact in a store), `llmjp_builder.conversion` (a
plain TensorRT-LLM checkpoint) and `llmjp_builder.spec` (the JSON contracts with other parts).
"""
