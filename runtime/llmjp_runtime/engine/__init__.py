"""The executor's loop in a process of its own, the engine host, and its proxy in the front."""
