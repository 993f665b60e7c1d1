"""What can be served, judged from config.json and the tokenizer's files alone. Pure.

Builder, operator and runtime ask the same functions, so that nothing is built that its own server
would refuse: `llmjp plan`, a resolve Job and the first second of a build say it, by name. Standard
library only, and nothing of `llmjp_builder` but the errors and the names of backends.
"""
