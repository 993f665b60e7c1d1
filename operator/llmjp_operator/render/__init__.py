"""The Kubernetes objects of a model, each a pure function of values: same input, same object.

What the API server would fill in inside a list or map that we own as a whole is written out, and
quantities are in its own spelling, so that an object reads back as it was applied
(`managed_fields`).
"""
