"""The addresses where people log in: with a name, from an invitation, by a refresh token; and where they end a session.

It deliberately has no page for a browser, sets no cookie, and gives no token that is not bound to a key (DPoP).

Invariants:
    1. Every token leaves with an audit entry in the transaction that used what it was given for.
    2. An access token ends with its session at the latest.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web

from einthoven_protocol.oauth import PROOF_HEADER, PROOF_SCHEME
from einthoven_server import limits
from einthoven_server.audit.trail import Trail
from einthoven_server.clock import Clock
from einthoven_server.errors import Malformed, Unauthorized
from einthoven_server.identity import access_tokens, dpop
from einthoven_server.identity.access_tokens import AccessClaims, Confirmation
from einthoven_server.identity.compact_tokens import TokenMalformed
from einthoven_server.identity.guard import Guard
from einthoven_server.identity.logins import Login, Logins, Proven
from einthoven_server.identity.passkey_logins import PasskeyLogins
from einthoven_server.identity.permissions import Operation
from einthoven_server.identity.refusals import replayed
from einthoven_server.identity.sessions import Presented, Replayed, Session, Use
from einthoven_server.identity.signing_keys import SigningKeys
from einthoven_server.requests import answers_errors, json_response, read_json, render_json

LOGINS: Final = web.AppKey("logins", Logins)
PASSKEYS: Final = web.AppKey("passkey_logins", PasskeyLogins)
KEYS: Final = web.AppKey("login_signing_keys", SigningKeys)
CLOCK: Final = web.AppKey("login_clock", Clock)
PUBLIC_URL: Final = web.AppKey("login_public_url", str)

_Name = Annotated[str, msgspec.Meta(max_length=limits.LOGIN_NAME_MAX_CHARS)]
_Password = Annotated[str, msgspec.Meta(max_length=limits.PASSWORD_MAX_CHARS)]
_Totp = Annotated[str, msgspec.Meta(max_length=limits.TOTP_DIGITS)]
_Code = Annotated[str, msgspec.Meta(max_length=limits.INVITATION_CODE_MAX_CHARS)]


class LoginRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """JSON body of POST /v1/login."""

    name: _Name
    password: _Password
    totp: _Totp | None = None
    recovery_code: _Code | None = None


class RefreshRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """JSON body of POST /v1/login/refresh and /v1/login/end."""

    refresh_token: _Code


class InvitationRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """JSON body of POST /v1/invitations/open."""

    code: _Code


class AcceptRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """JSON body of POST /v1/invitations/accept."""

    code: _Code
    password: _Password
    totp: _Totp


class NothingRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """JSON body of POST /v1/login/passkey/options: an empty object."""


class PasskeyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """JSON body of POST /v1/login/passkey."""

    credential: dict[str, Any]


class AcceptByPasskeyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """JSON body of POST /v1/invitations/passkey."""

    code: _Code
    credential: dict[str, Any]


async def log_in(request: web.Request, trail: Trail) -> web.Response:
    """POST /v1/login."""
    asked, app, now_ms = await read_json(request, LoginRequest, limits.LOGIN_BODY_MAX_BYTES), request.app, _now(request)
    if (asked.totp is None) is (asked.recovery_code is None):
        raise Malformed("one of totp and recovery_code has to be there", "send the other one alone")
    given = Login(asked.name, asked.password, asked.totp, asked.recovery_code)
    proven = _proven(request, now_ms)
    try:
        session = await app[LOGINS].log_in(given, proven, now_ms, trail)
    except Replayed as error:
        raise replayed() from error
    return await _tokens(app, session, proven.jkt, now_ms)


async def passkey_options(request: web.Request, trail: Trail) -> web.Response:
    """POST /v1/login/passkey/options."""
    del trail
    await read_json(request, NothingRequest, limits.LOGIN_BODY_MAX_BYTES)
    return json_response(await request.app[PASSKEYS].options(_now(request)))


async def log_in_by_passkey(request: web.Request, trail: Trail) -> web.Response:
    """POST /v1/login/passkey."""
    asked, app = await read_json(request, PasskeyRequest, limits.LOGIN_BODY_MAX_BYTES), request.app
    now_ms = _now(request)
    proven = _proven(request, now_ms)
    try:
        session = await app[PASSKEYS].log_in(asked.credential, proven, now_ms, trail)
    except Replayed as error:
        raise replayed() from error
    return await _tokens(app, session, proven.jkt, now_ms)


async def refresh(request: web.Request, trail: Trail) -> web.Response:
    """POST /v1/login/refresh."""
    app, now_ms = request.app, _now(request)
    presented = await _presented(request, now_ms)
    try:
        found = await app[LOGINS].sessions.refresh(presented, now_ms, trail)
    except Replayed as error:
        raise replayed() from error
    if isinstance(found, Use):
        raise _over()
    return await _tokens(app, found, presented.jkt, now_ms)


async def end(request: web.Request, trail: Trail) -> web.Response:
    """POST /v1/login/end."""
    now_ms = _now(request)
    presented = await _presented(request, now_ms)
    try:
        found = await request.app[LOGINS].sessions.end(presented, now_ms, trail)
    except Replayed as error:
        raise replayed() from error
    if isinstance(found, Use):
        raise _over()
    return json_response({"ended_at_ms": now_ms})


async def open_invitation(request: web.Request, trail: Trail) -> web.Response:
    """POST /v1/invitations/open."""
    asked = await read_json(request, InvitationRequest, limits.LOGIN_BODY_MAX_BYTES)
    shown = await request.app[LOGINS].open(asked.code, _now(request), trail)
    return json_response(shown._asdict())


async def accept_invitation(request: web.Request, trail: Trail) -> web.Response:
    """POST /v1/invitations/accept."""
    asked, app, now_ms = (
        await read_json(request, AcceptRequest, limits.LOGIN_BODY_MAX_BYTES),
        request.app,
        _now(request),
    )
    proven = _proven(request, now_ms)
    try:
        session, codes = await app[LOGINS].accept(asked.code, asked.password, asked.totp, proven, now_ms, trail)
    except Replayed as error:
        raise replayed() from error
    return await _tokens(app, session, proven.jkt, now_ms, recovery_codes=codes)


async def new_passkey_options(request: web.Request, trail: Trail) -> web.Response:
    """POST /v1/invitations/passkey/options."""
    asked, app = await read_json(request, InvitationRequest, limits.LOGIN_BODY_MAX_BYTES), request.app
    return json_response(await app[PASSKEYS].new_options(asked.code, _now(request), trail))


async def accept_by_passkey(request: web.Request, trail: Trail) -> web.Response:
    """POST /v1/invitations/passkey."""
    asked, app = await read_json(request, AcceptByPasskeyRequest, limits.LOGIN_BODY_MAX_BYTES), request.app
    now_ms = _now(request)
    proven = _proven(request, now_ms)
    try:
        session = await app[PASSKEYS].accept(asked.code, asked.credential, proven, now_ms, trail)
    except Replayed as error:
        raise replayed() from error
    return await _tokens(app, session, proven.jkt, now_ms)


def _now(request: web.Request) -> int:
    return request.app[CLOCK].now_ms()


def _proven(request: web.Request, now_ms: int) -> Proven:
    """The key that the session will be bound to, its proof not claimed yet."""
    url = request.app[PUBLIC_URL] + request.raw_path.partition("?")[0]
    try:
        proof = dpop.prove(request.headers.getall(PROOF_HEADER, []), dpop.Target("POST", url, ""), now_ms)
    except TokenMalformed as error:
        raise Malformed(
            f"the DPoP proof is refused: {error}", "see RFC 9449, section 5", code="invalid_dpop_proof"
        ) from error
    return Proven(proof.jkt, proof.claim)


async def _presented(request: web.Request, now_ms: int) -> Presented:
    asked = await read_json(request, RefreshRequest, limits.LOGIN_BODY_MAX_BYTES)
    proven = _proven(request, now_ms)
    return Presented(asked.refresh_token, proven.jkt, proven.claim)


async def _tokens(app: web.Application, session: Session, jkt: str, now_ms: int, **more: object) -> web.Response:
    key, issued_at_s = await app[KEYS].current(), now_ms // 1000
    lifetime_s = max(1, min(limits.ACCESS_TOKEN_LIFETIME_S, session.ends_at_ms // 1000 - issued_at_s))
    holder = session.holder
    claims = AccessClaims(
        iss=app[PUBLIC_URL],
        aud=app[PUBLIC_URL],
        sub=holder.principal_id,
        client_id=holder.principal_id,
        jti=str(uuid.uuid4()),
        iat=issued_at_s,
        exp=issued_at_s + lifetime_s,
        keys=holder.key_version,
        cnf=Confirmation(jkt),
        sid=session.session_id,
    )
    answer = {
        "access_token": access_tokens.issue(claims, key.lifetime.kid, key.private),
        "token_type": PROOF_SCHEME,
        "expires_in": lifetime_s,
        "refresh_token": session.refresh_token,
        "session_ends_at_ms": session.ends_at_ms,
    }
    return json_response(answer | more)


def _over() -> Unauthorized:
    """The one answer to a refresh token that is unknown, over, or was used."""
    return Unauthorized("this session is over", "log in again", code="session_over")


def add_logins(
    app: web.Application,
    *,
    logins: Logins,
    passkeys: PasskeyLogins,
    keys: SigningKeys,
    guard: Guard,
    clock: Clock,
    public_url: str,
) -> None:
    """Give an application these addresses."""
    app[LOGINS], app[PASSKEYS], app[KEYS], app[CLOCK], app[PUBLIC_URL] = logins, passkeys, keys, clock, public_url
    anyone = guard.anyone
    app.add_routes(
        [
            web.post("/login", anyone(Operation.LOG_IN, log_in)),
            web.post("/login/passkey/options", anyone(Operation.ASK_PASSKEY, passkey_options)),
            web.post("/login/passkey", anyone(Operation.LOG_IN, log_in_by_passkey)),
            web.post("/login/refresh", anyone(Operation.REFRESH_SESSION, refresh)),
            web.post("/login/end", anyone(Operation.END_SESSION, end)),
            web.post("/invitations/open", anyone(Operation.OPEN_INVITATION, open_invitation)),
            web.post("/invitations/passkey/options", anyone(Operation.OPEN_INVITATION, new_passkey_options)),
            web.post("/invitations/passkey", anyone(Operation.ACCEPT_INVITATION, accept_by_passkey)),
            web.post("/invitations/accept", anyone(Operation.ACCEPT_INVITATION, accept_invitation)),
        ]
    )


def make_application() -> web.Application:
    """An application to which these and an admin's addresses are added, to be mounted at /v1."""
    return web.Application(middlewares=[answers_errors(render_json)])
