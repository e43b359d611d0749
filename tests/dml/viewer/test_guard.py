"""Who is refused: no token, a wrong one, another host or origin, and everything that would write."""

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from dml.viewer.app import Viewer, make_app
from dml.viewer.guard import Guard
from tests.dml.viewer.conftest import HOST, PORT, TOKEN, guarded

PATHS = ("/", "/static/main.js", "/static/openseadragon.min.js", "/api/slides")


@pytest.mark.parametrize("path", PATHS)
def test_without_token_nothing_is_answered(viewer: Viewer, path: str) -> None:
    client = guarded(viewer)
    for address in (path, f"{path}?token=wrong", f"{path}?token=", f"{path}?token=wrong&token={TOKEN}"):
        response = client.get(address, follow_redirects=False)
        assert response.status_code == 403
        assert "set-cookie" not in response.headers
        assert TOKEN not in response.text
    client.cookies.set(f"dml-view-{PORT}", "wrong", domain="127.0.0.1")
    assert client.get(path).status_code == 403


def test_the_token_becomes_a_cookie_that_scripts_and_other_sites_do_not_get(viewer: Viewer) -> None:
    client = guarded(viewer)
    response = client.get(f"/?q=1&token={TOKEN}", follow_redirects=False)
    assert (response.status_code, response.headers["location"]) == (303, "/?q=1")
    cookie = response.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Path=/", f"dml-view-{PORT}={TOKEN}"))
    for path in PATHS:
        assert client.get(path).status_code == 200


def test_the_redirection_stays_here(viewer: Viewer) -> None:
    response = guarded(viewer).get(f"{HOST}//evil.example/?token={TOKEN}", follow_redirects=False)
    assert response.headers["location"] == "/evil.example/"


def test_a_ticket_opens_once(viewer: Viewer) -> None:
    guard = Guard(make_app(viewer), PORT, TOKEN)
    ticket = guard.issue_ticket()
    statuses = [
        TestClient(guard, base_url=HOST).get(f"/?token={ticket}", follow_redirects=False).status_code for _ in range(2)
    ]
    assert statuses == [303, 403]


@pytest.mark.parametrize(
    "host",
    ["evil.example", f"evil.example:{PORT}", "127.0.0.1", f"127.0.0.1:{PORT + 1}", f"127.0.0.1.nip.io:{PORT}", ""],
)
@pytest.mark.parametrize("path", ["/", "/api/slides", f"/?token={TOKEN}"])
def test_another_host_is_refused_even_with_cookie_and_token(client: TestClient, host: str, path: str) -> None:
    """A page under a name that was made to point at this machine (DNS rebinding)."""
    response = client.get(path, headers={"Host": host}, follow_redirects=False)
    assert response.status_code == 421
    assert "set-cookie" not in response.headers


def test_localhost_is_this_machine(client: TestClient) -> None:
    assert client.get("/api/slides", headers={"Host": f"localhost:{PORT}"}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", f"https://127.0.0.1:{PORT}", "http://127.0.0.1:80"])
def test_another_origin_is_refused(client: TestClient, origin: str) -> None:
    assert client.get("/api/slides", headers={"Origin": origin}).status_code == 403
    assert client.get("/api/slides", headers={"Origin": HOST}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_can_be_changed(client: TestClient, method: str) -> None:
    assert client.request(method, "/api/slides").status_code == 405


def test_web_sockets_are_closed(client: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/api/slides"):
        pass


@pytest.mark.parametrize("path", [*PATHS, "/nothing", f"/?token={TOKEN}"])
def test_every_answer_forbids_what_is_elsewhere(client: TestClient, path: str) -> None:
    headers = client.get(path, follow_redirects=False).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "frame-ancestors 'none'" in policy
    assert not any(word in policy for word in ("unsafe", "http", "*", "data:"))
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in headers
