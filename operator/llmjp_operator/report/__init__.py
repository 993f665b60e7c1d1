"""Status, conditions and events of a model. Pure."""
