"""The page's files over HTTP: small, packed, cached, closed to what is foreign, and no more public than they must."""

import gzip
import re
from pathlib import Path

import pytest

from rpc_wrapper.gateway import GatewayConfig, Target, dashboard
from tests.gateway.serve import FakeUpstream, serving

READY = Target("http://127.0.0.1:1")
FILES = dashboard.read_files()
SCRIPTS = sorted(Path(dashboard.__file__).parent.glob("*.js"))
MOST_BYTES = 150_000  # of the whole page, before it is packed


def test_the_page_is_small():
    assert sum(len(file.body) for file in FILES.values()) < MOST_BYTES


def test_the_page_names_every_file_and_no_other_host():
    index = FILES["index.html"].body.decode()
    named = set(re.findall(r'"/dashboard/([\w.]+)"', index))
    assert named == set(FILES) - {"index.html"}
    for name, file in FILES.items():
        text = file.body.decode().replace("http://www.w3.org/", "")
        assert re.findall(r"https?://\w", text) == [], name


def test_every_script_is_part_of_the_one_that_is_served():
    served = FILES["app.js"].body.decode()
    assert len(SCRIPTS) > 10
    for path in SCRIPTS:
        assert served.count(f"const ${path.stem} = ") == 1, path.name


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_script_parses_a_string_as_html(path: Path):
    text = path.read_text()
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc"):
        assert way not in text


async def test_files_are_packed_and_asked_for_once():
    async with serving(FakeUpstream(READY)) as client:
        plain = await client.get("/", headers={"accept-encoding": "identity"})
        packed = await client.get("/dashboard/app.css", headers={"accept-encoding": "gzip"})
        again = await client.get("/", headers={"if-none-match": plain.headers["etag"]})
        head = await client.head("/")
    assert (plain.status_code, plain.content) == (200, FILES["index.html"].body)
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == FILES["app.css"].body
    assert gzip.decompress(FILES["app.css"].packed) == FILES["app.css"].body
    assert (again.status_code, again.content) == (304, b"")
    assert (head.status_code, head.content) == (200, b"")


async def test_the_policy_allows_nothing_but_the_page_itself():
    async with serving(FakeUpstream(READY)) as client:
        headers = (await client.get("/")).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"


async def test_the_page_is_public_and_nothing_around_it():
    config = GatewayConfig(api_keys=("k",), passthrough_all=True)
    async with serving(FakeUpstream(READY), config) as client:
        for path in ("/", "/dashboard/app.js", "/dashboard/icon.svg"):
            assert (await client.get(path)).status_code == 200
        for method, path in (("POST", "/"), ("GET", "/dashboard/secret"), ("GET", "/dashboard/../cluster")):
            assert (await client.request(method, path)).status_code == 401, path
        assert (await client.get("/cluster/strategies")).status_code == 401
