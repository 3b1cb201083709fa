"""Downloads from a real server that breaks off, refuses, redirects and changes its mind."""

from pathlib import Path

import pytest

from rpc_wrapper.errors import ConfigError, GGUFError, TransportError
from rpc_wrapper.pull import Download, Source
from tests.pull.hub import Hub, serving

CONTENT = b"GGUF" + bytes(range(256)) * 20_000  # 5 MB: several chunks


def source(hub: Hub, path: str = "/file.gguf", **known: object) -> Source:
    return Source(hub.url + path, "file.gguf", **known)  # type: ignore[arg-type]


def partial_files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.endswith(".part")]


def test_a_file_comes_whole_and_the_progress_says_so(tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    with serving(Hub(CONTENT)) as hub:
        Download(source(hub), tmp_path / "new" / "m.gguf", progress=lambda *step: told.append(step)).run()
    assert (tmp_path / "new" / "m.gguf").read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert partial_files(tmp_path / "new") == []


def test_an_interrupted_download_goes_on_by_itself(tmp_path: Path) -> None:
    with serving(Hub(CONTENT, break_after=[0, 3_000_000, 1_000_000])) as hub:
        Download(source(hub, sha256=hub.sha256), tmp_path / "m.gguf").run()
        assert hub.offsets == ["", "", "bytes=3000000-", "bytes=4000000-"]
    assert (tmp_path / "m.gguf").read_bytes() == CONTENT


def test_a_download_that_gave_up_goes_on_when_it_is_run_again(tmp_path: Path) -> None:
    with serving(Hub(CONTENT, break_after=[0, 3_000_000, 0])) as hub:
        download = Download(source(hub, sha256=hub.sha256), tmp_path / "m.gguf")
        with pytest.raises(TransportError, match=r"broke off after 3000000 bytes"):
            download.run()
        assert not (tmp_path / "m.gguf").exists()
        download.run()
        assert hub.offsets[-1] == "bytes=3000000-"
    assert (tmp_path / "m.gguf").read_bytes() == CONTENT


def test_without_a_digest_the_etag_tells_which_partial_file_is_meant(tmp_path: Path) -> None:
    with serving(Hub(CONTENT, break_after=[0, 3_000_000, 0], etag='"one"')) as hub:
        with pytest.raises(TransportError):
            Download(source(hub), tmp_path / "m.gguf").run()
        hub.content, hub.etag = b"GGUF" + bytes(len(CONTENT)), '"two"'
        Download(source(hub), tmp_path / "m.gguf").run()
        assert hub.offsets[-1] == ""
        assert (tmp_path / "m.gguf").read_bytes() == hub.content


def test_a_server_without_ranges_sends_everything_again(tmp_path: Path) -> None:
    with serving(Hub(CONTENT, break_after=[0, 3_000_000], ranges=False)) as hub:
        download = Download(source(hub, sha256=hub.sha256), tmp_path / "m.gguf")
        with pytest.raises(TransportError):
            download.run()
        download.run()
    assert (tmp_path / "m.gguf").read_bytes() == CONTENT


def test_a_wrong_digest_leaves_nothing(tmp_path: Path) -> None:
    with serving(Hub(CONTENT)) as hub, pytest.raises(GGUFError, match="SHA-256"):
        Download(source(hub, sha256="0" * 64), tmp_path / "m.gguf").run()
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_size_is_noticed(tmp_path: Path) -> None:
    with serving(Hub(CONTENT)) as hub, pytest.raises(TransportError, match=f"{len(CONTENT)} of {len(CONTENT) + 1}"):
        Download(source(hub, size_bytes=len(CONTENT) + 1), tmp_path / "m.gguf").run()
    assert not (tmp_path / "m.gguf").exists()


def test_a_web_page_is_not_a_model(tmp_path: Path) -> None:
    with serving(Hub(b"<html>log in first</html>")) as hub, pytest.raises(GGUFError, match="no GGUF"):
        Download(source(hub), tmp_path / "m.gguf").run()
    assert not (tmp_path / "m.gguf").exists()


def test_a_file_is_not_overwritten_unless_told(tmp_path: Path) -> None:
    target = tmp_path / "m.gguf"
    target.write_bytes(b"mine")
    with serving(Hub(CONTENT)) as hub:
        with pytest.raises(ConfigError, match="--force"):
            Download(source(hub), target).run()
        assert target.read_bytes() == b"mine"
        Download(source(hub), target).run(overwrite=True)
    assert target.read_bytes() == CONTENT


def test_the_digest_that_a_hub_says_on_its_redirect_is_checked(tmp_path: Path) -> None:
    with serving(Hub(CONTENT)) as hub:
        Download(source(hub, "/redirect.gguf"), tmp_path / "m.gguf").run()
        assert (tmp_path / "m.gguf").read_bytes() == CONTENT
        hub.said_sha256 = "0" * 64
        with pytest.raises(GGUFError, match="SHA-256"):
            Download(source(hub, "/redirect.gguf"), tmp_path / "other.gguf").run()


def test_a_file_with_the_digest_that_a_hub_says_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "m.gguf"
    target.write_bytes(CONTENT)
    with serving(Hub(CONTENT)) as hub:
        Download(source(hub, "/redirect.gguf"), target).run()
        hub.said_sha256 = "0" * 64
        with pytest.raises(ConfigError, match="is another file"):
            Download(source(hub, "/redirect.gguf"), target).run()
        with pytest.raises(ConfigError, match="SHA-256 is not known"):
            Download(source(hub), target).run()
    assert target.read_bytes() == CONTENT


def test_the_token_reaches_the_hub_and_never_the_host_it_redirects_to(tmp_path: Path) -> None:
    with serving(Hub(CONTENT, token="hf_secret")) as hub:
        Download(source(hub, "/redirect.gguf"), tmp_path / "m.gguf", token="hf_secret").run()
        for headers in hub.seen:
            expected = "Bearer hf_secret" if headers[":path"] == "/redirect.gguf" else None
            assert headers.get("authorization") == expected


@pytest.mark.parametrize(
    ("path", "words"), [("/private.gguf", "answered 401: .*HF_TOKEN"), ("/missing.gguf", "answered 404: .*address")]
)
def test_a_refusal_says_what_to_do(tmp_path: Path, path: str, words: str) -> None:
    hub = Hub(CONTENT, token="hf_secret" if path == "/private.gguf" else None)
    with serving(hub), pytest.raises(TransportError, match=words) as raised:
        Download(source(hub, path), tmp_path / "m.gguf", token="hf_wrong").run()
    assert "hf_wrong" not in str(raised.value)


def test_nobody_there_is_one_sentence(tmp_path: Path) -> None:
    with serving(Hub(CONTENT)) as hub:
        gone = source(hub)
    with pytest.raises(TransportError, match="cannot be reached"):
        Download(gone, tmp_path / "m.gguf").run()


def test_a_server_that_hangs_up_without_a_word_is_one_sentence(tmp_path: Path) -> None:
    with serving(Hub(CONTENT)) as hub, pytest.raises(TransportError, match="hung up or fell silent"):
        Download(source(hub, "/silent.gguf"), tmp_path / "m.gguf").run()


@pytest.mark.parametrize("url", ["http://host:port/m.gguf", "mirror/m.gguf"])
def test_an_address_that_is_none_is_one_sentence(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="is no address"):
        Download(Source(url, "m.gguf"), tmp_path / "m.gguf").run()


def test_a_folder_that_takes_no_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    with serving(Hub(CONTENT)) as hub, pytest.raises(ConfigError, match=r"cannot be written .*--output-dir"):
        Download(source(hub), tmp_path / "models" / "m.gguf").run()


def test_a_full_disk_is_noticed_before_anything_is_sent(tmp_path: Path) -> None:
    with serving(Hub(CONTENT)) as hub, pytest.raises(ConfigError, match="MiB free"):
        Download(source(hub, size_bytes=1 << 60), tmp_path / "m.gguf").run()


def test_a_file_that_is_there_already_is_recognised(tmp_path: Path) -> None:
    target = tmp_path / "m.gguf"
    target.write_bytes(CONTENT)
    assert Download(Source("http://unused/m.gguf", "m.gguf", None, Hub(CONTENT).sha256), target).is_done()
    assert not Download(Source("http://unused/m.gguf", "m.gguf", None, "0" * 64), target).is_done()
    assert not Download(Source("http://unused/m.gguf", "m.gguf"), target).is_done()
