"""Who may ask the page's server: browsers on this machine that know the token, and no other site's page."""

import hmac

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def error_response(status: int, sentence: str) -> JSONResponse:
    """Every refusal and every failure is one sentence."""
    return JSONResponse({"error": sentence}, status)


class Guard:
    """Lets requests through that know the token and come from the page itself."""

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app, self._token = app, token.encode()
        self._hosts = [f"127.0.0.1:{port}", f"localhost:{port}"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        # None of our addresses holds a sign that is written as %xx, so that it may not hide one either.
        raw = scope["raw_path"]
        token, slash, rest = raw.removeprefix(b"/").partition(b"/")
        reason = self._reason(Headers(scope=scope))
        if not (slash and b"%" not in raw and hmac.compare_digest(token, self._token)):
            reason = (
                reason
                or "this address has not the token that `draw` printed; open the printed one."
            )
        if reason:
            await error_response(403, reason)(scope, receive, with_headers)
            return
        await self._app({**scope, "path": "/" + rest.decode("latin-1")}, receive, with_headers)

    def _reason(self, headers: Headers) -> str | None:
        """Why a request is refused, if it is."""
        if headers.getlist("host") not in [[host] for host in self._hosts]:
            return f"this server is reached as {self._hosts[0]} only."
        if not {*headers.getlist("origin")} <= {f"http://{host}" for host in self._hosts}:
            return "another site may not use this server."
        return None
