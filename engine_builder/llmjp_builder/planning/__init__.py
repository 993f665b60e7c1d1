"""What a model needs and where it fits, known before a byte of it is fetched.

`plan` is pure and, like everything here but `source`, needs the standard library only.
"""
