"""The local server of a site: isolated pages, right types, nothing but the site's own files."""

from __future__ import annotations

import http.client
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pocketgenie.errors import UserError
from pocketgenie.runtimes.serve import HEADERS, serve, serving, site_of


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    (folder / "secret.txt").write_text("beyond the site")
    site = folder / "site"
    (site / "engine").mkdir(parents=True)
    (site / "index.html").write_text("<!doctype html>")
    for name in ("engine/engine.js", "engine/ort.mjs", "engine/ort.wasm", "engine/play.onnx"):
        (site / name).write_bytes(b"0123456789")
    (site / "escape").symlink_to(folder / "secret.txt")
    with serving(site) as address:
        yield address


def get(address: str, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """A request whose path is sent as it stands, dots and all."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=20)
    connection.putrequest(method, path, skip_host=False)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/index.html", "text/html"),
        ("/engine/engine.js", "text/javascript"),
        ("/engine/ort.mjs", "text/javascript"),
        ("/engine/ort.wasm", "application/wasm"),
        ("/engine/play.onnx?sha256=0", "application/octet-stream"),
    ],
)
def test_every_file_comes_with_its_type_and_isolated(address, path, kind):
    status, headers, _ = get(address, path)
    assert status == 200 and headers["content-type"].startswith(kind)
    assert {name: headers[name] for name in HEADERS} == HEADERS


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/engine/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/engine/%2e%2e/%2e%2e/secret.txt",
        "/..%5csecret.txt",
        "//etc/passwd",
        "/%2fetc/passwd",
        "/escape",
        "/engine",
        "/engine/",
        "/missing.js",
        "/engine/ort.mjs%00.js",
    ],
)
def test_nothing_but_the_sites_files_is_given(address, path):
    status, headers, content = get(address, path)
    assert status in (307, 400, 404), (status, content)
    assert b"beyond" not in content and b"root:" not in content and b"ort.mjs" not in content
    if status != 307:
        assert headers["cross-origin-embedder-policy"] == "require-corp"


def test_other_methods_are_refused_and_a_part_can_be_asked_for(address):
    assert get(address, "/index.html", "POST")[0] == 405
    assert get(address, "/index.html", "HEAD")[2] == b""
    status, _, content = get(address, "/engine/play.onnx", Range="bytes=2-4")
    assert (status, content) == (206, b"234")


def test_a_port_in_use_is_one_line(web_bundle):
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(UserError, match="choose another --port"),
    ):
        serve(web_bundle, "127.0.0.1", taken.getsockname()[1], print)


def test_only_a_whole_site_is_served(web_bundle, tiny_bundle, tmp_path):
    assert site_of(web_bundle) == web_bundle / "site"
    with pytest.raises(UserError, match=r"has no site.*--target web"):
        site_of(tiny_bundle)
    with pytest.raises(UserError, match="is no bundle"):
        site_of(tmp_path)
    copy = shutil.copytree(web_bundle, tmp_path / "copy")
    engine = copy / "site" / "engine" / "engine.js"
    engine.write_bytes(engine.read_bytes().replace(b"E", b"e", 1))
    with pytest.raises(UserError, match=r"engine\.js is altered"):
        site_of(copy)


def test_a_link_that_leaves_the_site_is_not_followed(tmp_path: Path):
    (tmp_path / "site").mkdir()
    (tmp_path / "out.html").write_text("beyond")
    (tmp_path / "site" / "index.html").symlink_to(tmp_path / "out.html")
    with serving(tmp_path / "site") as address:
        assert get(address, "/")[0] == 404
