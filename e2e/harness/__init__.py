"""The harness of scenarios: an installation of the operator, and namespaces with models."""
