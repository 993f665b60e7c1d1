"""Capacity planning: what a model needs and where it fits, before a byte of it is fetched.

`capacity` is pure and, like everything here but `source`, needs the standard library only.
"""
