"""Results of commands as tables for a person."""
