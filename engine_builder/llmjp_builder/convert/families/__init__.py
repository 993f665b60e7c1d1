"""Conversion rules, one module per family of architectures."""
