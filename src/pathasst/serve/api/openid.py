"""Login at an OpenID provider: the authorization code flow with state, nonce and PKCE, by Authlib. Knows one provider.

What a login leaves in the browser meanwhile (state, nonce, verifier) lies in a signed cookie of some minutes. The ID token is
checked here: signature, issuer, audience, nonce, time; no access token is kept.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pathasst.core.errors import MissingPackage
from pathasst.serve.api.logins import OPENID, Caller, Logins, enter, page
from pathasst.serve.keys import ADMIN, USER

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from pathasst.assistant.settings import OpenIdSettings

SECRET = "PATHASST_OPENID_SECRET"  # noqa: S105 - the variable's name
MINUTES = 10
"""To log in at the provider."""
_log = logging.getLogger(__name__)


def login_app(settings: OpenIdSettings, logins: Logins, root_path: str = "") -> Starlette:
    """`/start` leads to the provider, `/callback` takes what it sends back. Raises MissingPackage without the extra `openid`."""
    try:
        import httpx2
        from authlib.integrations.starlette_client import OAuth, OAuthError
        from joserfc.errors import JoseError
        from starlette.middleware.sessions import SessionMiddleware
    except ImportError as error:
        raise MissingPackage(f"a login by OpenID needs the extra `openid`: pip install 'pathasst[openid]' ({error})") from None
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.routing import Route

    secret, issuer = os.environ.get(SECRET, ""), settings.issuer.rstrip("/")
    provider = OAuth().register(
        "provider",
        client_id=settings.client_id,
        client_secret=secret or None,
        server_metadata_url=f"{issuer}/.well-known/openid-configuration",
        client_kwargs={
            "scope": settings.scope,
            "code_challenge_method": "S256",
            "token_endpoint_auth_method": "client_secret_basic" if secret else "none",
            "timeout": 10,
        },
    )
    expected = {
        "iss": {"essential": True, "values": [issuer, f"{issuer}/"]},
        "aud": {"essential": True, "value": settings.client_id},
    }

    async def start(request: Request) -> Response:
        try:
            return await provider.authorize_redirect(request, str(request.url_for("callback")))
        except (httpx2.HTTPError, OAuthError, ValueError, RuntimeError) as error:
            _log.error("the OpenID provider does not answer: %s", error)
            return page(request, f"{settings.host} does not answer; try again later, or use a key.", 502)

    async def callback(request: Request) -> Response:
        try:
            token = await provider.authorize_access_token(request, claims_options=expected)
            caller = caller_of(token.get("userinfo") or {}, settings)
        except (OAuthError, JoseError, ValueError) as error:  # the provider's words are for the log alone
            _log.warning("a login by OpenID was refused: %s", error)
            return page(request, "This login was refused; try again.", 401)
        except (httpx2.HTTPError, RuntimeError) as error:
            _log.error("the OpenID provider does not answer: %s", error)
            return page(request, f"{settings.host} does not answer; try again later, or use a key.", 502)
        if caller is None:
            return page(request, "You are logged in, but this server is not open to you.", 403)
        # Lax: the browser comes here from the provider's site, and a strict cookie would not be sent with the page that follows
        return enter(request, logins.start_for(caller), "lax")

    session = Middleware(
        SessionMiddleware,
        secret_key=secrets.token_urlsafe(32),  # a login that a restart interrupts is begun anew
        session_cookie="pathasst_openid",
        max_age=MINUTES * 60,
        same_site="lax",
        path=root_path + OPENID,
    )
    app = Starlette(routes=[Route("/start", start), Route("/callback", callback, name="callback")], middleware=[session])
    app.state.provider = settings.host
    return app


def caller_of(claims: Mapping[str, Any], settings: OpenIdSettings) -> Caller | None:
    """Who has logged in, and their role; None for somebody who is in none of the groups. Raises ValueError without a name."""
    name = claims.get(settings.name_claim)
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"the ID token has no claim {settings.name_claim!r}")
    if settings.name_claim == "email" and claims.get("email_verified") is not True:
        raise ValueError("the provider has not verified the address")
    named = claims.get(settings.groups_claim) or ()
    groups = {named} if isinstance(named, str) else {str(group) for group in named}
    admin = bool(groups.intersection(settings.admin_groups))
    if settings.groups and not admin and not groups.intersection(settings.groups):
        return None
    return Caller(f"openid:{name.strip()[:100]}", ADMIN if admin else USER)
