"""Precedence, provenance, unknown names, files, templates, secrets."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from rpc_wrapper.config import load_settings
from rpc_wrapper.config.templates import TEMPLATES
from rpc_wrapper.errors import ConfigError

SECRET = "hunter2-very-secret"


def write(path: Path, content: object) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


def endpoints(environ: dict[str, str]) -> list[str]:
    return [str(endpoint) for endpoint in load_settings({}, environ).settings.rpc_backends]


def test_local_stands_for_the_servers_own_devices():
    assert endpoints({"APP_RPC_BACKENDS": "a:1, local ,b:2"}) == ["a:1", "b:2", "local"]
    assert endpoints({"APP_RPC_BACKENDS": "local"}) == ["local"]


def test_rpc_backends_are_exactly_the_list_that_was_set():
    assert endpoints({"APP_RPC_BACKENDS": "h1:50052,h2:50053"}) == ["h1:50052", "h2:50053"]


@pytest.mark.parametrize(
    ("environ", "expected", "warning"),
    [
        ({"APP_RPC": "h1:1"}, ["h1:1"], "APP_RPC is an old name: rename it to APP_RPC_BACKENDS"),
        ({"APP_RPC": "h1:1", "APP_RPC_BACKENDS": "h2:2"}, ["h2:2"], "APP_RPC is ignored"),
        ({"APP_RPC": "1", "APP_RPC_BACKENDS": "h2:2"}, ["h2:2"], "APP_RPC is ignored"),
    ],
)
def test_app_rpc_is_an_alias_that_loses(environ, expected, warning):
    assert endpoints(environ) == expected
    (said,) = load_settings({}, environ).warnings
    assert said.startswith(warning)


def test_precedence_and_where_each_value_came_from(tmp_path):
    path = write(tmp_path / "settings.json", {"template": "memory", "mem": 3, "parallel": 3, "max_queue": 3})
    environ = {"APP_CONFIG": path, "APP_MEM": "2", "APP_PARALLEL": "2"}
    loaded = load_settings({"mem": 1, "ctx_size": None}, environ)
    settings, sources = loaded.settings, {name: str(source) for name, source in loaded.sources.items()}
    assert (settings.mem, sources["mem"]) == (1, "cli")
    assert (settings.parallel, sources["parallel"]) == (2, "env APP_PARALLEL")
    assert (settings.max_queue, sources["max_queue"]) == (3, f"file {path}")
    assert (settings.ctx_size, sources["ctx_size"]) == (2048, "template memory")
    assert (settings.wait_s, sources["wait_s"]) == (120, "default")
    assert set(sources) == set(type(settings).model_fields)


@pytest.mark.parametrize("winner", ["cli", "env", "file", "template"])
def test_each_layer_wins_over_those_below(tmp_path, winner):
    order = ["cli", "env", "file", "template"]
    below = order[order.index(winner) :]
    content: dict[str, object] = {"templates": {"mine": {"mem": 40} if "template" in below else {}}, "template": "mine"}
    content |= {"mem": 30} if "file" in below else {}
    environ = {"APP_CONFIG": write(tmp_path / "s.yaml", content)} | ({"APP_MEM": "20"} if "env" in below else {})
    loaded = load_settings({"mem": 10} if "cli" in below else {}, environ)
    assert loaded.settings.mem == 10 * (order.index(winner) + 1)
    assert loaded.sources["mem"].kind == winner


def test_an_empty_variable_is_an_unset_one():
    loaded = load_settings({}, {"APP_PORT": "", "APP_API_KEYS": " ", "APP_RPC": ""})
    assert loaded.settings.port == 50052
    assert loaded.settings.api_keys == ()
    assert loaded.warnings == ()


@pytest.mark.parametrize("word", ["false", "False", "0", "no", "off", "OFF"])
def test_words_for_false_are_false(word):
    assert load_settings({}, {"APP_EMBEDDINGS": word}).settings.embeddings is False


@pytest.mark.parametrize("word", ["true", "1", "yes", "on"])
def test_words_for_true_are_true(word):
    assert load_settings({}, {"APP_EMBEDDINGS": word}).settings.embeddings is True


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"APP_MODE": "sever"}, "APP_MODE=sever: use one of backend, server, none"),
        ({"APP_PORT": "0"}, "APP_PORT=0: it must be 1 or more"),
        ({"APP_PORT": "70000"}, "APP_PORT=70000: it must be 65535 or less"),
        ({"APP_PORT": "http"}, "APP_PORT=http: write a whole number"),
        ({"APP_PORT": "65535"}, "APP_AGENT_PORT=65536: it must be 65535 or less"),
        ({"APP_MEM": "0"}, "APP_MEM=0: it must be more than 0"),
        ({"APP_MEM": "2GB"}, "APP_MEM=2GB: write a whole number"),
        ({"APP_MEM": "-5"}, "APP_MEM=-5: it must be more than 0"),
        ({"APP_WAIT_S": "nan"}, "APP_WAIT_S=nan: write a finite number"),
        ({"APP_WAIT_S": "soon"}, "APP_WAIT_S=soon: write a number"),
        ({"APP_EMBEDDINGS": "maybe"}, "APP_EMBEDDINGS=maybe: write true or false"),
        ({"APP_FLASH_ATTN": "perhaps"}, "APP_FLASH_ATTN=perhaps: use one of auto, on, off"),
        ({"APP_CACHE_TYPE_K": "q3"}, "APP_CACHE_TYPE_K=q3: use one of f32, f16, bf16, q8_0"),
        ({"APP_MEMORY_WEIGHT": "1.5"}, "APP_MEMORY_WEIGHT=1.5: it must be 1 or less"),
        ({"APP_BOUNDARIES": "1..2"}, "APP_BOUNDARIES=1..2: write inclusive block ranges, for example 0-7,8-21"),
        ({"APP_RPC_BACKENDS": "nope"}, "APP_RPC_BACKENDS=nope: endpoint 'nope' is malformed"),
        ({"APP_RPC_BACKENDS": "a:1,a:1"}, "APP_RPC_BACKENDS=a:1,a:1: endpoint a:1 is listed twice"),
        ({"APP_RPC_BACKENDS": ","}, "APP_RPC_BACKENDS=,: it names no endpoint"),
        (
            {"APP_RPC_BACKENDS": "[::1]:50052", "APP_LINK": "direct"},
            "[::1]:50052, an IPv6 literal, which the engine cannot parse",
        ),
        ({"APP_RPC_BACKENDS": ",".join(f"h:{n}" for n in range(1, 18))}, "17 endpoints are listed"),
        ({"APP_TEMPLATE": "fast"}, "APP_TEMPLATE=fast: there is no such template, use one of basic, memory, mixed"),
        ({"APP_CONFIG": "/nowhere/s.yaml"}, "APP_CONFIG=/nowhere/s.yaml cannot be read: No such file or directory"),
        ({"APP_API_KEYS_FILE": "/nowhere/k"}, "APP_API_KEYS_FILE=/nowhere/k cannot be read"),
    ],
)
def test_bad_values_are_one_sentence_with_what_is_allowed(environ, message):
    with pytest.raises(ConfigError) as caught:
        load_settings({}, environ)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "pydantic" not in str(caught.value)


def test_every_wrong_value_is_told_at_once():
    with pytest.raises(ConfigError) as caught:
        load_settings({}, {"APP_MODE": "x", "APP_MEM": "0", "APP_PARALLEL": "y"})
    assert [line.split("=")[0] for line in str(caught.value).splitlines()] == ["APP_MODE", "APP_MEM", "APP_PARALLEL"]


def test_ipv6_literals_are_taken_where_links_carry_them():
    (endpoint,) = load_settings({}, {"APP_RPC_BACKENDS": "[::1]:50052"}).settings.rpc_backends
    assert str(endpoint) == "[::1]:50052"


def test_unknown_names_are_all_told_with_the_nearest():
    with pytest.raises(ConfigError) as caught:
        load_settings({}, {"APP_PROT": "1", "APP_ZZZZZ": "1", "PATH": "/bin", "LLAMA_ARG_X": "1"})
    assert str(caught.value).splitlines() == [
        "APP_PROT is not a setting: did you mean APP_PORT?",
        "APP_ZZZZZ is not a setting; `rpc-wrapper config` lists the names there are",
    ]


def test_a_wrong_option_is_named_as_it_was_written():
    with pytest.raises(ConfigError, match="--ctx-size 0: it must be more than 0"):
        load_settings({"ctx_size": 0}, {})


def test_yaml_says_what_json_says(tmp_path):
    yaml = write(tmp_path / "s.yaml", "flash_attn: on\nembeddings: no\nrpc_backends: [a:1, b:2]\nchat_template:\n")
    settings = load_settings({"config": yaml}, {}).settings
    assert settings.flash_attn == "on"  # YAML 1.1 reads it as true
    assert settings.embeddings is False
    assert [str(endpoint) for endpoint in settings.rpc_backends] == ["a:1", "b:2"]
    assert settings.chat_template is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("mem: 0", "mem: 0 (file "),
        ("mmem: 5", "mmem is not a setting (file "),
        ("- a\n- b", "this is not a set of settings, write one `name: value` per line"),
        ("a: b: c", "line 1 is neither YAML nor JSON"),
        ("config: other.yaml", "a file of settings cannot name another"),
        ("templates: 5", "this is not a set of settings"),
        ("rpc_backends: 5", "write host:port, separated by commas"),
        ("chat_template: [1]", "write text (quote it in a file)"),
        ("api_keys: {a: hunter2-very-secret}", "api_keys: *** (file "),
    ],
)
def test_bad_files_are_refused_with_the_place(tmp_path, content, message):
    path = write(tmp_path / "s.yaml", content)
    with pytest.raises(ConfigError) as caught:
        load_settings({}, {"APP_CONFIG": path})
    assert message in str(caught.value)
    assert path in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({"template": "y"}, "template x cannot set template: remove it"),
        ({"mem": 0}, "mem: 0 (template x): it must be more than 0"),
        ({"mmem": 5}, "mmem is not a setting (template x): did you mean mem?"),
        ([1], "template x: this is not a set of settings"),
    ],
)
def test_bad_templates_are_refused_by_name(tmp_path, template, message):
    path = write(tmp_path / "s.json", {"template": "x", "templates": {"x": template}})
    with pytest.raises(ConfigError) as caught:
        load_settings({"config": path}, {})
    assert message in str(caught.value)


def test_an_empty_file_sets_nothing(tmp_path):
    assert load_settings({}, {"APP_CONFIG": write(tmp_path / "s.yaml", "")}).settings.mem == 1024


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "s.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load_settings({}, {"APP_CONFIG": str(tmp_path / "s.yaml")})


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_every_template_is_valid_and_in_force(name):
    loaded = load_settings({}, {"APP_TEMPLATE": name})
    for field, value in TEMPLATES[name].items():
        assert getattr(loaded.settings, field) == value
        assert str(loaded.sources[field]) == f"template {name}"


def keys(values: tuple[SecretStr, ...]) -> list[str]:
    return [key.get_secret_value() for key in values]


def test_keys_come_as_a_list_or_from_a_file(tmp_path):
    path = write(tmp_path / "keys", "a1\n\n b2 \na1\n")
    settings = load_settings({}, {"APP_API_KEYS": "x, y,,x", "APP_ADMIN_KEYS_FILE": path}).settings
    assert keys(settings.api_keys) == ["x", "y"]
    assert keys(settings.admin_keys) == ["a1", "b2"]


def test_a_key_file_obeys_the_same_precedence(tmp_path):
    token = write(tmp_path / "token", SECRET + "\n")
    file = write(tmp_path / "s.yaml", {"agent_token": "of-the-file"})
    loaded = load_settings({"config": file}, {"APP_AGENT_TOKEN_FILE": token})
    assert loaded.settings.agent_token is not None
    assert loaded.settings.agent_token.get_secret_value() == SECRET
    assert str(loaded.sources["agent_token"]) == "env APP_AGENT_TOKEN_FILE"


@pytest.mark.parametrize(
    ("field", "content", "message"),
    [
        ("api_keys", "\n \n", "APP_API_KEYS_FILE={} is empty"),
        ("agent_token", f"{SECRET}\nb", "APP_AGENT_TOKEN_FILE={} holds 2 lines: a token is one line"),
        ("api_keys", f"{SECRET} b", "APP_API_KEYS=***: a key is printable ASCII without spaces"),
        ("agent_token", f"{SECRET} é", "APP_AGENT_TOKEN=***: a key is printable ASCII without spaces"),
    ],
)
def test_bad_key_files_never_show_a_key(tmp_path, field, content, message):
    path = write(tmp_path / "keys", content)
    with pytest.raises(ConfigError) as caught:
        load_settings({}, {f"APP_{field.upper()}_FILE": path})
    assert message.format(path) in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_secret_set_twice_in_one_place_is_refused(tmp_path):
    environ = {"APP_API_KEYS": SECRET, "APP_API_KEYS_FILE": write(tmp_path / "keys", "k")}
    with pytest.raises(ConfigError, match="APP_API_KEYS and APP_API_KEYS_FILE are both set"):
        load_settings({}, environ)


def test_secrets_are_never_in_repr_str_or_json():
    environ = {f"APP_{name}": SECRET for name in ("API_KEYS", "ADMIN_KEYS", "AGENT_TOKEN")}
    loaded = load_settings({}, environ)
    for form in (repr(loaded), str(loaded.settings), loaded.settings.model_dump_json(), repr(loaded.settings)):
        assert SECRET not in form


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "MODE",
                "PORT",
                "MEM",
                "API_KEYS",
                "RPC_BACKENDS",
                "RPC",
                "CTX_SIZE",
                "WAIT_S",
                "BOUNDARIES",
                "MODEL",
                "EMBEDDINGS",
                "MEMORY_WEIGHT",
            ]
        ),
        st.text(),
    )
)
def test_any_text_is_either_taken_or_refused_in_a_sentence(values):
    environ = {f"APP_{name}": value for name, value in values.items()}
    with contextlib.suppress(ConfigError):  # anything else, pydantic's own errors too, fails the test
        load_settings({}, environ)
