"""The ASGI application: ``/healthz``, ``/readyz`` and ``/plugins/INSTANCE/...``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from syncd.admin.desk import Desk
from syncd.admin.requests import Declined
from syncd.model import Secret, bearer_matches
from syncd.plugins import METHODS

Endpoint = Callable[[Request], Awaitable[Response]]


def application(desk: Desk, token: Secret | None) -> ASGIApp:
    """Return what the server answers with; where there is a token, health is told to its bearer."""

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})  # the loop turns, or nobody would say so

    async def readyz(_: Request) -> Response:
        hindrance = desk.hindrance
        if hindrance is None:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready", "reason": hindrance}, 503)

    async def plugin(request: Request) -> Response:
        instance, path = request.path_params["instance"], request.path_params["path"]
        return await desk.answer(instance, f"/{path}", request)

    return Starlette(
        routes=[
            Route("/healthz", _guarded(healthz, token), methods=["GET"]),
            Route("/readyz", _guarded(readyz, token), methods=["GET"]),
            Route("/plugins/{instance}/{path:path}", plugin, methods=[*METHODS]),
        ]
    )


def _guarded(endpoint: Endpoint, token: Secret | None) -> Endpoint:
    if token is None:
        return endpoint

    async def guarded(request: Request) -> Response:
        if bearer_matches(dict(request.headers), token):
            return await endpoint(request)
        wanted = {"www-authenticate": "Bearer"}  # RFC 6750 3
        return Declined(401, "a token is wanted", headers=wanted).response()

    return guarded
