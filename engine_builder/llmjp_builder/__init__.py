"""From a Hugging Face checkpoint of llm-jp-3 to an artefact that a server can load.

Entry points: `pipeline.build` (an artefact in a store), `convert.conversion` (a plain TensorRT-LLM
checkpoint) and `contracts.spec` (the JSON contracts with other parts).
"""
