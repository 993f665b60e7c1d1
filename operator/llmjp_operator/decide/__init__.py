"""What is to happen to a model, decided from a snapshot. Pure; renders no object."""
