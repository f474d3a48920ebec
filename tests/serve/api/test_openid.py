"""Login at an OpenID provider: a real one on loopback, a real server, and a browser's cookies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastapi import FastAPI, Request

pytest.importorskip("authlib", reason="the extra openid is not installed")

from openid_provider import CLIENT, OTHER_KEY, SECRET, Provider, provider
from server_parts import Running, running, settings

from pathasst.assistant.settings import OpenIdSettings
from pathasst.core.errors import BadSettings
from pathasst.tools.protocol import Registry

HTML = {"accept": "text/html"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Provider]]:
    """A server without the page, but with a path that only a login opens; and its provider."""
    with pytest.MonkeyPatch.context() as patch, provider() as made:
        patch.setenv("PATHASST_OPENID_SECRET", SECRET)
        openid = OpenIdSettings(
            issuer=made.issuer,
            client_id=CLIENT,
            name_claim="preferred_username",
            groups=("pathology",),
            admin_groups=("it",),
        )
        with running(tmp_path_factory.mktemp("openid"), Registry(), keys_required=True, openid=openid) as served:
            app: Any = served.server.config.app
            whoami(app)
            yield served, made


def whoami(app: FastAPI) -> None:
    @app.get("/whoami")
    def who(request: Request) -> str:
        return str(request.state.user)


@pytest.fixture
def login(world: tuple[Running, Provider]) -> Iterator[Callable[..., httpx.Response]]:
    """Log a browser in; `claims` change what the provider says of it."""
    served, made = world
    with httpx.Client(base_url=served.url, follow_redirects=True, headers=HTML, verify=False) as web:

        def log_in(**claims: Any) -> httpx.Response:
            made.claims = {"preferred_username": "anna", "groups": ["pathology"], **claims}
            return web.get("/login/openid/start")

        log_in.web = web  # type: ignore[attr-defined]
        yield log_in


def test_a_person_logs_in_and_out(world: tuple[Running, Provider], login: Any) -> None:
    served, made = world
    web = login.web
    form = web.get("/whoami")
    assert form.url.path == "/login" and "/login/openid/start" in form.text and made.issuer.split("//")[1] in form.text
    page = login()
    assert page.url.path == "/"
    assert web.get("/whoami").json() == "openid:anna"
    asked = made.requests[-1]
    assert asked["code_challenge_method"] == "S256" and len(asked["state"]) >= 20 and len(asked["nonce"]) >= 20
    assert asked["response_type"] == "code" and asked["redirect_uri"] == f"{served.url}/login/openid/callback"
    assert web.get("/metrics").status_code in (401, 403)  # the cookie is the page's alone
    assert web.get("/v1/models").status_code == 401
    cookies = [value for response in page.history for value in response.headers.get_list("set-cookie")]
    session = next(value for value in cookies if value.startswith("pathasst_session="))
    assert "HttpOnly" in session and "SameSite=lax" in session
    held = [value for value in cookies if value.startswith("pathasst_openid=")]
    assert held and all("httponly" in value.lower() and "samesite=lax" in value.lower() for value in held)
    assert all("path=/login/openid" in value.lower() for value in held)
    web.post("/logout")
    assert web.get("/whoami").url.path == "/login"


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "of another login"},
        {"nonce": None},
        {"aud": "another client"},
        {"aud": [CLIENT, "another"], "azp": "another"},
        {"iss": "http://127.0.0.1:1"},
        {"exp": int(time.time()) - 3600},
        {"preferred_username": None},
        {"preferred_username": ""},
    ],
    ids=lambda claims: " ".join(
        n if n == "exp" else f"{n}={v}" for n, v in claims.items()
    ),  # the same in each of pytest's workers
)
def test_a_token_that_is_not_for_this_login_is_refused(login: Any, claims: dict[str, Any]) -> None:
    refused = login(**claims)
    assert refused.status_code == 401 and "refused" in refused.text
    assert login.web.get("/whoami").url.path == "/login"


def test_a_token_that_another_key_signed_is_refused(world: tuple[Running, Provider], login: Any) -> None:
    _, made = world
    own, made.key = made.key, OTHER_KEY
    try:
        assert login().status_code == 401
    finally:
        made.key = own
    assert login().url.path == "/"


def test_groups_open_the_server_and_its_metrics(world: tuple[Running, Provider], login: Any) -> None:
    refused = login(groups=["surgery"])
    assert refused.status_code == 403 and "not open to you" in refused.text
    assert login.web.get("/whoami").url.path == "/login"
    login(groups="it", preferred_username="eve")
    served, _ = world
    caller = served.server.config.app.state.logins.caller(login.web.cookies["pathasst_session"])  # type: ignore[union-attr]
    assert (caller.user, caller.role) == ("openid:eve", "admin")


def test_a_callback_counts_only_in_the_browser_that_began(world: tuple[Running, Provider], login: Any) -> None:
    served, made = world
    login()
    made.claims = {"preferred_username": "anna", "groups": ["pathology"]}
    with httpx.Client(base_url=served.url, headers=HTML, verify=False) as web:
        to_provider = web.get("/login/openid/start").headers["location"]
        back = httpx.get(to_provider, verify=False).headers["location"]
        with httpx.Client(headers=HTML, verify=False) as other:  # somebody's link, opened by another person
            assert other.get(back).status_code == 401
        assert web.get(back.replace("state=", "state=x")).status_code == 401
        assert web.get("/login/openid/callback").status_code == 401
        assert web.get(back).status_code == 303
        assert web.get(back).status_code == 401  # once
        denied = web.get("/login/openid/callback", params={"error": "access_denied", "error_description": "<script>"})
        assert denied.status_code == 401 and "<script>" not in denied.text
    assert made.refused == []


def test_behind_a_proxy_below_another_path(world: tuple[Running, Provider], tmp_path: Path) -> None:
    _, made = world
    openid = OpenIdSettings(issuer=made.issuer, client_id=CLIENT)
    with running(tmp_path, Registry(), keys_required=True, openid=openid, root_path="/tools/pathasst") as served:
        proxied = {"X-Forwarded-Proto": "https", "Accept": "text/html"}
        form = httpx.get(f"{served.url}/login", headers=proxied)
        assert 'href="/tools/pathasst/login/openid/start"' in form.text and 'action="/tools/pathasst/login"' in form.text
        begun = httpx.get(f"{served.url}/login/openid/start", headers=proxied)
        back = parse_qs(urlsplit(begun.headers["location"]).query)["redirect_uri"]
        host = served.url.removeprefix("http://")
        assert back == [f"https://{host}/tools/pathasst/login/openid/callback"]
        assert (
            "path=/tools/pathasst/login/openid;" in begun.headers["set-cookie"].lower()
        )  # or the browser would not send it back
        made.claims = {}
        with httpx.Client(base_url=served.url, headers=proxied) as web:
            to_provider = web.get("/login/openid/start").headers["location"]
            returned = urlsplit(httpx.get(to_provider).headers["location"])
            entered = web.get(f"/login/openid/callback?{returned.query}", headers={"Cookie": cookie_of(web)})
            assert (entered.status_code, entered.headers["location"]) == (303, "/tools/pathasst/")
            assert "secure" in entered.headers["set-cookie"].lower()


def cookie_of(web: httpx.Client) -> str:
    """The cookies whatever their path is: the proxy shows the server below another one."""
    return "; ".join(f"{cookie.name}={cookie.value}" for cookie in web.cookies.jar)


def test_a_provider_that_is_away_costs_its_logins_alone(tmp_path: Path) -> None:
    openid = OpenIdSettings(issuer="http://127.0.0.1:9", client_id=CLIENT)
    with running(tmp_path, Registry(), keys_required=True, openid=openid) as served:
        away = httpx.get(f"{served.url}/login/openid/start", verify=False)
        assert away.status_code == 502 and "does not answer" in away.text
        assert httpx.get(f"{served.url}/login", verify=False).status_code == 200


def test_who_is_believed() -> None:
    from pathasst.serve.api.openid import caller_of

    by_mail = OpenIdSettings(issuer="https://sso.example.org", client_id="a", name_claim="email")
    caller = caller_of({"email": "a@b.c", "email_verified": True}, by_mail)
    assert caller is not None and (caller.user, caller.role) == ("openid:a@b.c", "user")
    for claims in ({"email": "a@b.c"}, {"email": "a@b.c", "email_verified": "false"}):
        with pytest.raises(ValueError, match="verified"):
            caller_of(claims, by_mail)


@pytest.mark.parametrize(
    ("openid", "words"),
    [({"issuer": "http://sso.example.org", "client_id": "a"}, "https"), ({"issuer": "https://sso.example.org"}, "client_id")],
)
def test_settings_that_cannot_be_trusted(openid: dict[str, str], words: str, tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=words):
        settings(tmp_path, openid=OpenIdSettings(**openid))
