"""Who may talk to the page's server: whoever has the token, from the page itself."""

import ipaddress
import os
import re
import secrets
import socket
from pathlib import Path

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def kept_token(path: Path) -> str:
    """The token in a file that its owner alone reads, which stays, so that an open tab goes on."""
    token = path.read_text(errors="replace") if path.exists() else ""
    if not re.fullmatch(r"[A-Za-z0-9_-]{43}", token):
        token = secrets.token_urlsafe(32)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as stream:
            stream.write(token)
    return token


class Guard:
    """Lets requests through that name this server, come from its page and know the token.

    The page's address with ``?token=`` sets a cookie, which all else is asked for. Names other than
    this machine's are refused, against DNS rebinding; so are requests that another page sends.
    """

    def __init__(self, app: ASGIApp, token: str, host: str, port: int) -> None:
        self._app, self._token, self._port = app, token, port
        self._anywhere = host not in _LOOPBACK
        self._cookie = f"dvos-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403, or hand the request on."""
        answer: ASGIApp = self._app
        headers = Headers(scope=scope) if scope["type"] == "http" else None
        if scope["type"] == "lifespan":
            pass
        elif headers is None or not self._is_own(headers):
            answer = PlainTextResponse("this page is not served under that name", 403)
        else:
            request = HTTPConnection(scope)
            given = request.query_params.get("token", "")
            if scope["path"] == "/" and self._matches(given):
                answer = RedirectResponse("/", 303)
                answer.set_cookie(self._cookie, self._token, httponly=True, samesite="strict")
            elif not self._matches(request.cookies.get(self._cookie, headers.get("x-token", ""))):
                text = "open the address that dvos label has printed: it holds the token"
                answer = PlainTextResponse(text, 403)
        await answer(scope, receive, send)

    def _matches(self, token: str) -> bool:
        return secrets.compare_digest(token.encode(), self._token.encode())

    def _is_own(self, headers: Headers) -> bool:
        host = headers.get("host", "")
        if headers.get("origin", f"http://{host}") != f"http://{host}":
            return False
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return False
        name, _, port = host.rpartition(":")
        name = name.removeprefix("[").removesuffix("]")
        known = name in _LOOPBACK or (self._anywhere and _is_here(name))
        return known and port == str(self._port)


def _is_here(name: str) -> bool:
    """Whether a name is this machine's, or an address."""
    try:
        return name == socket.gethostname() or bool(ipaddress.ip_address(name))
    except ValueError:
        return False
