"""HTTP to servers of this pod: never through a proxy, whatever the environment says.

`HTTP_PROXY` is for the world outside. A proxy cannot reach this pod's own ports, and `NO_PROXY` is
somebody else's to set.
"""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from http.client import HTTPResponse

_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def open_direct(url: str, timeout_s: float) -> HTTPResponse:
    """Return the response to a GET, to be used in a `with` statement.

    Raises:
        urllib.error.HTTPError: an answer from 400.
        OSError: no answer in time.
    """
    response: HTTPResponse = _OPENER.open(url, timeout=timeout_s)
    return response
