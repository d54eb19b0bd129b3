"""A client of the pipeline protocol, for Paddle Serving itself and for ``deploy/serving`` alike. Standard library only.

Image files are sent as they are; the server decodes and preprocesses them.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ppcls.serving.protocol import ServingError, build_request, parse_response
from ppcls.utils.errors import UserError


class PipelineClient:
    """Sends images to ``url`` (``http://host:port/<service>/prediction``) and returns their embeddings.

    ``token``: sent as a bearer token. ``timeout``: seconds for each answer. Proxies of the environment are used, but
    not for this machine's own addresses, where Paddle Serving's users had to unset them by hand.

    Raises:
        UserError: not an address of that kind.
    """

    def __init__(self, url: str, token: str | None = None, timeout: float = 30.0) -> None:
        self.url, self.timeout = _checked(url), timeout
        self._headers = {"Content-Type": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        proxies = urllib.request.ProxyHandler({}) if _is_loopback(url) else urllib.request.ProxyHandler()
        self._opener = urllib.request.build_opener(proxies, _NoRedirects)

    def embed(self, images: Sequence[bytes], logid: int = 0) -> np.ndarray:
        """Embeddings float32 [N, D] of image files given as bytes, in one request.

        Raises:
            ServingError: the service answered with an error, or with something that is no answer.
            UserError: no service there, or no answer in time.
        """
        rows = parse_response(self._ask(json.dumps(build_request(images, logid)).encode()))
        if len(rows) != len(images) or not np.isfinite(rows).all():
            raise ServingError(10000, f"{len(images)} images sent, {list(rows.shape)} numbers came back, or not finite")
        return rows

    def _ask(self, body: bytes) -> object:
        request = urllib.request.Request(self.url, body, self._headers, method="POST")
        try:
            with self._opener.open(request, timeout=self.timeout) as answer:
                data = answer.read()
        except urllib.error.HTTPError as refusal:
            with refusal:
                raise _refused(refusal.code, refusal.read(1 << 16)) from None
        except TimeoutError:
            raise UserError(f"{self.url}: no answer within {self.timeout:g} s") from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise UserError(f"{self.url}: no answer within {self.timeout:g} s") from None
            raise UserError(f"{self.url}: {error.reason}; is the service running?") from error
        except (OSError, http.client.HTTPException) as error:
            raise UserError(f"{self.url}: the connection broke: {error or type(error).__name__}") from error
        try:
            return json.loads(data)
        except ValueError:
            raise ServingError(10000, f"no JSON came back: {data[:200]!r}") from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET without its images, and could take the token elsewhere."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        return None


def read_token(path: str | Path) -> str:
    """The bearer token in a file, blanks around it removed.

    Raises:
        UserError: unreadable, empty, or no single printable ASCII word.
    """
    try:
        return checked_token(Path(path).read_text(encoding="utf-8"), path)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the token in {path}: {error}") from error


def checked_token(text: str, where: str | Path) -> str:
    """``text`` without the blanks around it, which would not come through in a header.

    Raises:
        UserError: naming ``where`` it is from: empty, or no single printable ASCII word.
    """
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise UserError(f"{where} holds no token; expected one word of printable ASCII characters")
    return token


def _checked(url: str) -> str:
    try:
        parts = urllib.parse.urlsplit(url)
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        raise UserError(f"--url {url}: not an address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_right:
        raise UserError(f"--url {url}: expected http://<host>:<port>/<service>/prediction")
    if len([segment for segment in parts.path.split("/") if segment]) != 2:
        raise UserError(f"--url {url}: its path must be /<service>/prediction, for example /reid/prediction")
    return url


def _is_loopback(url: str) -> bool:
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _refused(status: int, body: bytes) -> ServingError:
    """What an HTTP status of 400 and above says, whichever of the protocol's bodies comes with it."""
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    fields = answer if isinstance(answer, dict) else {}
    said = next((fields[key] for key in ("err_msg", "message", "errorMsg") if fields.get(key)), None)
    said = said or body[:200].decode("utf-8", "replace").strip() or "no reason given"
    return ServingError(fields.get("err_no", status), f"HTTP {status}: {said}")
