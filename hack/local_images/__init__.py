"""The project's images, built from its Dockerfiles without Docker and without a registry.

A base is made once with debootstrap; what pip needs is downloaded on this machine, so that a build
needs no network. Every image is an archive in the cache, under a key of all that goes into it.
"""

from __future__ import annotations

from hack.local_images.build import Image, build, is_reproducible, load
from hack.local_images.recipes import IMAGES, name_image
from hack.local_images.tools import ImagesMissing, install

__all__ = [
    "IMAGES",
    "Image",
    "ImagesMissing",
    "build",
    "install",
    "is_reproducible",
    "load",
    "name_image",
]
