"""Conversion of Hugging Face checkpoints to TensorRT-LLM's: headers, rules, plan, execution.

`llmjp_builder.convert.conversion` joins the parts; `planner` and its rules are pure.
"""
