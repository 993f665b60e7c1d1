"""From Hugging Face tensors to those of TensorRT-LLM's ranks: headers, rules, plan, execution.

`llmjp_builder.convert.conversion` joins the parts; `plan` and everything it imports are pure.
"""
