"""Files generated from `api`: the CustomResourceDefinition and its reference page. Pure.

The operator itself never needs this; `make generate` does.
"""
