"""Who may talk to the viewer: a browser of this machine that came with the token, and no page of another site.

As Jupyter does: the address that is printed holds a random token, which becomes a cookie that scripts cannot read and
other sites do not send. ``Host`` must name this machine, or a page of another site could reach the viewer under a name
of its own (DNS rebinding); ``Origin`` must be the viewer's. Everything is read only.
"""

import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN = "token"
HOSTS = ("127.0.0.1", "localhost")
READ_ONLY = ("GET", "HEAD")
STYLE = "sha256-9xTiqzfwFaL2SGb1rmr8gysEwVVjIvqWAgmZgqFqpEE="
"""Hash of the one style sheet that OpenSeadragon adds to a page."""
HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'self'; style-src 'self' '{STYLE}'; object-src 'none'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Of every response: nothing is loaded from elsewhere, nothing is shown inside of another page."""


class Guard:
    """Middleware that refuses every request that is not of the user's own browser.

    Parameters
    ----------
    app : ASGI application
        What is guarded.
    port : int
        That the server listens on.
    token : str
        The secret in the printed address.
    """

    def __init__(self, app: ASGIApp, port: int, token: str) -> None:
        self._app, self._token, self._cookie = app, token, f"dml-view-{port}"
        self._hosts = {f"{host}:{port}" for host in HOSTS} | (set(HOSTS) if port == 80 else set())
        self._tickets: set[str] = set()

    def issue_ticket(self) -> str:
        """Return a token for one use: what a browser is started with stands in the list of processes."""
        ticket = secrets.token_urlsafe(32)
        self._tickets.add(ticket)
        return ticket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, refuse, or pass a request on."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1008})
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = self._answer(scope)
        await (answer or self._app)(scope, receive, send_with_headers)

    def _answer(self, scope: Scope) -> Response | None:
        """Return a refusal, or the redirection that sets the cookie; None for a request to pass on."""
        headers = Headers(scope=scope)
        if headers.getlist("host") != [headers.get("host")] or headers.get("host") not in self._hosts:
            return _refuse(421, "This server answers under 127.0.0.1 and localhost only.")
        if headers.get("origin", f"http://{headers['host']}") != f"http://{headers['host']}":
            return _refuse(403, "Requests of other sites are refused.")
        if scope["method"] not in READ_ONLY:
            return _refuse(405, "The viewer is read only.")
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in query if name == TOKEN]
        if given:
            return self._enter(scope, query) if self._is_valid(given[0]) else _refuse(403, "The token is wrong.")
        if not self._is_same(_cookie(headers, self._cookie)):
            return _refuse(403, "Open the address that dml view printed: it holds the token.")
        return None

    def _enter(self, scope: Scope, query: list[tuple[str, str]]) -> Response:
        rest = urlencode([(name, value) for name, value in query if name != TOKEN])
        path = "/" + scope["path"].lstrip("/\\")  # two slashes would be the name of a host
        response = RedirectResponse(f"{path}?{rest}" if rest else path, 303)
        response.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/")
        return response

    def _is_valid(self, token: str) -> bool:
        if token in self._tickets:
            self._tickets.discard(token)
            return True
        return self._is_same(token)

    def _is_same(self, token: str) -> bool:
        return secrets.compare_digest(token.encode(), self._token.encode())


def _cookie(headers: Headers, name: str) -> str:
    try:
        return SimpleCookie(headers.get("cookie", ""))[name].value
    except (CookieError, KeyError):
        return ""


def _refuse(status: int, reason: str) -> Response:
    return PlainTextResponse(reason + "\n", status)
