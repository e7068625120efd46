"""The addresses of access tokens: to get one, and the keys that verify them.

It deliberately has no grant but ``client_credentials`` with ``private_key_jwt``, no refresh token, and no secret that a
client and the server share.

Invariants:
    1. An assertion and a proof are claimed in the transaction that writes the entry of the token issued for them; no
       token leaves without.
    2. A token is bound to the proof's key; one without is issued only where its client is registered so.
"""

from __future__ import annotations

import uuid
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import web

from einthoven_protocol.oauth import ASSERTION_TYPE, FORM_TYPE, GRANT_TYPE, PROOF_HEADER, TOKEN_PATH
from einthoven_server import limits
from einthoven_server.audit.trail import Trail
from einthoven_server.clock import Clock
from einthoven_server.errors import Malformed, Unauthorized
from einthoven_server.identity import access_tokens, client_assertions, dpop
from einthoven_server.identity.access_tokens import AccessClaims, Confirmation
from einthoven_server.identity.client_store import ClientStore
from einthoven_server.identity.clients import (
    SERVICE_ALGORITHMS,
    Client,
    granted,
)
from einthoven_server.identity.compact_tokens import TokenMalformed
from einthoven_server.identity.guard import Guard
from einthoven_server.identity.permissions import Operation
from einthoven_server.identity.principal_addresses import add_principal_addresses
from einthoven_server.identity.refusals import replayed
from einthoven_server.identity.signing_keys import SigningKeys
from einthoven_server.identity.store import IdentityStore
from einthoven_server.requests import (
    answers_errors,
    json_response,
    read_body,
    render_json,
)
from einthoven_server.single_use import Claim

CLIENTS: Final = web.AppKey("token_clients", ClientStore)
KEYS: Final = web.AppKey("token_signing_keys", SigningKeys)
GUARD: Final = web.AppKey("token_guard", Guard)
CLOCK: Final = web.AppKey("token_clock", Clock)
PUBLIC_URL: Final = web.AppKey("token_public_url", str)
_FIELDS_MAX: Final = 16


async def token(request: web.Request, trail: Trail) -> web.Response:
    """POST /v1/token (RFC 6749 section 4.4, RFC 7523, RFC 9449 section 5)."""
    app, now_ms = request.app, request.app[CLOCK].now_ms()
    form = await _form(request)
    try:
        assertion = client_assertions.read(form.get("client_assertion", ""))
        client = await app[CLIENTS].find(assertion.claims.sub)
        claims = [client_assertions.check(assertion, client, app[PUBLIC_URL], now_ms)]
    except TokenMalformed as error:
        raise Unauthorized(
            f"the client assertion is refused: {error}", "see docs/access-tokens.md", code="invalid_client"
        ) from error
    if client is None or form.get("client_id", client.client_id) != client.client_id:
        raise Unauthorized("client_id is not the assertion's", "leave it out", code="invalid_client")
    trail.actor, trail.patient = client.client_id, client.patient_id or ""
    app[GUARD].take(client.client_id)
    jkt = _bound_to(request, client, claims, now_ms)
    scope = granted(client.scopes, form.get("scope", ""))
    if form.get("scope") and not scope:
        raise Malformed("scope names nothing that this client is registered for", "leave it out", code="invalid_scope")
    key = await app[KEYS].current()
    if not await app[CLIENTS].claim(*claims, event=trail.event()):
        raise replayed()
    trail.written = True
    issued_at_s = now_ms // 1000
    text = access_tokens.issue(
        AccessClaims(
            iss=app[PUBLIC_URL],
            aud=app[PUBLIC_URL],
            sub=client.client_id,
            client_id=client.client_id,
            jti=str(uuid.uuid4()),
            iat=issued_at_s,
            exp=issued_at_s + limits.ACCESS_TOKEN_LIFETIME_S,
            keys=client.key_version,
            cnf=None if jkt is None else Confirmation(jkt),
            scope=scope,
        ),
        key.lifetime.kid,
        key.private,
    )
    answer: dict[str, object] = {
        "access_token": text,
        "token_type": "Bearer" if jkt is None else "DPoP",
        "expires_in": limits.ACCESS_TOKEN_LIFETIME_S,
    }
    return json_response(answer | ({"scope": scope} if scope else {}))


async def _form(request: web.Request) -> dict[str, str]:
    body = await read_body(request, limits.TOKEN_FORM_MAX_BYTES, FORM_TYPE)
    try:
        fields = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            max_num_fields=_FIELDS_MAX,
            errors="strict",
        )
    except (ValueError, UnicodeDecodeError) as error:
        raise Malformed("the form can't be read", "send name=value pairs", code="invalid_request") from error
    form = dict(fields)
    if len(form) != len(fields):
        raise Malformed("a field comes twice", "send each once", code="invalid_request")
    if form.get("grant_type") != GRANT_TYPE:
        raise Malformed("grant_type is not taken", f"send {GRANT_TYPE}", code="unsupported_grant_type")
    if form.get("client_assertion_type") != ASSERTION_TYPE:
        raise Malformed("client_assertion_type is not taken", f"send {ASSERTION_TYPE}", code="invalid_request")
    return form


def _bound_to(request: web.Request, client: Client, claims: list[Claim], now_ms: int) -> str | None:
    """The thumbprint of the key that the token will be bound to, its proof put beside what is claimed."""
    proofs = request.headers.getall(PROOF_HEADER, [])
    if not proofs and client.bearer:
        return None
    target = dpop.Target("POST", request.app[PUBLIC_URL] + TOKEN_PATH, "")
    try:
        proof = dpop.prove(proofs, target, now_ms)
    except TokenMalformed as error:
        raise Malformed(
            f"the DPoP proof is refused: {error}", "see RFC 9449, section 5", code="invalid_dpop_proof"
        ) from error
    claims.append(proof.claim)
    return proof.jkt


async def jwks(request: web.Request) -> web.Response:
    """GET /.well-known/jwks.json (RFC 7517)."""
    keys = request.app[KEYS]
    await keys.current()
    held = await keys.held()
    return _shown({"keys": [dict(held[kid].jwk) for kid in sorted(held)]})


async def metadata(request: web.Request) -> web.Response:
    """GET /.well-known/oauth-authorization-server (RFC 8414)."""
    url = request.app[PUBLIC_URL]
    return _shown(
        {
            "issuer": url,
            "token_endpoint": url + TOKEN_PATH,
            "jwks_uri": url + "/.well-known/jwks.json",
            "grant_types_supported": [GRANT_TYPE],
            "response_types_supported": [],
            "token_endpoint_auth_methods_supported": ["private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": sorted(SERVICE_ALGORITHMS),
            "dpop_signing_alg_values_supported": list(dpop.ALGORITHMS),
        }
    )


def _shown(document: dict[str, object]) -> web.Response:
    response = json_response(document)
    response.headers["Cache-Control"] = f"public, max-age={limits.JWKS_MAX_AGE_S}"
    return response


def make_application(
    *, clients: ClientStore, keys: SigningKeys, store: IdentityStore, guard: Guard, clock: Clock, public_url: str
) -> web.Application:
    """The application, to be mounted at /v1.

    Args:
        clients: Who may ask.
        keys: What signs.
        store: Patients.
        guard: Authentication, permission, audit.
        clock: Wall time.
        public_url: This server's address as its clients know it.
    """
    app = web.Application(middlewares=[answers_errors(render_json)])
    app[CLIENTS], app[KEYS], app[GUARD], app[CLOCK], app[PUBLIC_URL] = clients, keys, guard, clock, public_url
    app.add_routes([web.post("/token", guard.anyone(Operation.ISSUE_TOKEN, token))])
    add_principal_addresses(app, clients=clients, keys=keys, store=store, guard=guard, clock=clock)
    return app


def make_well_known(keys: SigningKeys, public_url: str) -> web.Application:
    """What anyone may read, to be mounted at /.well-known."""
    app = web.Application(middlewares=[answers_errors(render_json)])
    app[KEYS], app[PUBLIC_URL] = keys, public_url
    app.add_routes([web.get("/jwks.json", jwks), web.get("/oauth-authorization-server", metadata)])
    return app
