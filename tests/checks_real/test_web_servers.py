"""http, https and http_proxy against nginx and tinyproxy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from hafsm.core.settings import CheckKind, Tls
from tests.checks_real.real_servers import NAME, V4, V6, Certificates, accepts, free_port, program, running
from tests.unit_checks.servers import Director, spec


class Web(NamedTuple):
    plain: int
    tls: int
    proxy: int


@pytest.fixture(scope="module")
def web(folder: Path, certificates: Certificates) -> Iterator[Web]:
    nginx, tinyproxy = program("nginx"), program("tinyproxy")
    ports = Web(free_port(), free_port(), free_port())
    (folder / "nginx.conf").write_text(
        f"""
        daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
        events {{}}
        http {{
            access_log off;
            client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
            uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
            ssl_certificate_key {certificates.key};
            server {{
                listen {V4}:{ports.plain}; listen [{V6}]:{ports.plain};
                location / {{ return 200 "Test Page at $host\\n"; }}
                location /moved {{ return 302 http://192.0.2.9/; }}
                location /locked {{ return 401; }}
                location /none {{ return 204; }}
            }}
            server {{
                listen {V4}:{ports.tls} ssl default_server; listen [{V6}]:{ports.tls} ssl default_server;
                ssl_certificate {certificates.elsewhere};
                location / {{ return 200 "Default $ssl_server_name."; }}
            }}
            server {{
                listen {V4}:{ports.tls} ssl; listen [{V6}]:{ports.tls} ssl;
                server_name {NAME};
                ssl_certificate {certificates.good};
                location / {{ return 200 "Test Page $ssl_server_name."; }}
            }}
        }}"""
    )
    (folder / "tinyproxy.conf").write_text(f"Port {ports.proxy}\nListen {V4}\nTimeout 10\nAllow {V4}\n")
    with (
        running(folder, [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf")], accepts(ports.tls)),
        running(folder, [tinyproxy, "-d", "-c", str(folder / "tinyproxy.conf")], accepts(ports.proxy)),
    ):
        yield ports


async def test_http_and_proxy(web: Web, director: Callable[..., Director]) -> None:
    plain, proxy = (V4, web.plain), (V4, web.proxy)
    http_proxy = CheckKind.HTTP_PROXY
    cases = [
        (spec(plain, receive="Test Page"), (True, "")),
        (spec((V6, web.plain), receive=r"at \[::1\]"), (True, "")),
        (spec(plain, virtualhost="a.example.com", receive="at a.example.com$"), (True, "")),
        (spec(plain, method="HEAD"), (True, "")),
        (spec(plain, receive="Other"), (False, "body does not match /Other/")),
        (spec(plain, request="/moved"), (False, "HTTP 302")),
        (spec(plain, request="/moved", statuses=((200, 399),)), (True, "")),
        (spec(plain, request="/locked", statuses=((200, 200), (401, 401))), (True, "")),
        (spec(plain, statuses=((401, 401),)), (False, "HTTP 200")),
        (spec(plain, request="/none"), (True, "")),
        (spec(proxy, http_proxy, request=f"http://{V4}:{web.plain}/", receive="Test Page"), (True, "")),
        (spec(proxy, http_proxy, request=f"http://{V4}:{web.plain}/locked"), (False, "HTTP 401")),
        (spec(proxy, http_proxy, request="http://127.0.0.1:1/"), (False, "HTTP 500")),
        (spec(proxy, http_proxy), (False, "request '/': a proxy is asked for an absolute http:// URL")),
    ]
    assert await director().judge([case for case, _ in cases]) == [verdict for _, verdict in cases]


async def test_https(web: Web, certificates: Certificates, director: Callable[..., Director]) -> None:
    def https(**changes: object) -> object:
        return spec((V4, web.tls), CheckKind.HTTPS, **changes)

    ca = str(certificates.authority)
    cases = [
        (https(receive="Default ."), (True, "")),
        (https(virtualhost=NAME, receive=f"Test Page {NAME}"), (True, "")),
        (https(virtualhost=f"{NAME}:443", receive=f"Test Page {NAME}"), (True, "")),
        (https(virtualhost="x.example.com", tls=Tls(name=NAME), receive=f"Default {NAME}"), (True, "")),
        (https(tls=Tls(name=NAME, authority=ca), virtualhost=NAME, receive="Test Page"), (True, "")),
        (spec((V6, web.tls), CheckKind.HTTPS, virtualhost=NAME, receive="Test Page"), (True, "")),
        (https(request=f"https://{V4}:{web.tls}/", virtualhost=NAME, receive="Test Page"), (True, "")),
        (https(receive="Other"), (False, "body does not match /Other/")),
        (
            https(tls=Tls(authority=ca)),
            (False, "certificate: IP address mismatch, certificate is not valid for '127.0.0.1'"),
        ),
        (
            https(tls=Tls(authority="system", name=NAME)),
            (False, "certificate: unable to get local issuer certificate"),
        ),
        (spec((V4, web.plain), CheckKind.HTTPS), (False, "TLS: wrong version number")),
        (spec((V4, web.tls)), (False, "HTTP 400")),
    ]
    assert await director().judge([case for case, _ in cases]) == [verdict for _, verdict in cases]
