"""Combinations of axes, and the command lines they become."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from rpc_wrapper.errors import ConfigError
from rpc_wrapper.experiment.cells import Cell, Limit, Limits, backend_options, cluster_options, demo_options, expand

MODEL = Path("/m.gguf")


def cell(**fields: object) -> Cell:
    return Cell.model_validate({"workload": "w", "model": "m", **fields})


def option(words: list[str], name: str) -> str | None:
    return words[words.index(name) + 1] if name in words else None


def test_every_combination_of_all_axes():
    found = expand({"nodes": [1, 2], "place": [{"threads": 1}, {"threads": 2, "main": "computes"}]}, {"model": "m"}, [])
    assert [(each["nodes"], each["threads"], each.get("main")) for each in found] == [
        (1, 1, None),
        (1, 2, "computes"),
        (2, 1, None),
        (2, 2, "computes"),
    ]
    assert {each["model"] for each in found} == {"m"}


def test_overrides_apply_where_they_hold_and_see_those_before():
    overrides = [({"nodes": 2}, {"threads": 3}), ({"threads": 3}, {"quant": "f32"})]
    one, two = expand({"nodes": [1, 2]}, {}, overrides)
    assert one == {"nodes": 1}
    assert two == {"nodes": 2, "threads": 3, "quant": "f32"}


def test_an_axis_of_another_name_needs_sets_of_fields():
    with pytest.raises(ConfigError, match="axis 'size' is no field of a cell"):
        expand({"size": [1, 2]}, {}, [])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"latency_s": [0.2, 0.1]}, "no range"),
        ({"split_mode": "tensor", "main": "computes"}, "use main: serves"),
        ({"nodes": 9}, "more than 8"),
        ({"nodes": 0}, "greater than or equal to 1"),
        ({"thread": 2}, "Extra inputs"),
    ],
)
def test_a_cell_that_cannot_be_is_refused(fields, words):
    with pytest.raises(ValidationError, match=words):
        cell(**fields)


@pytest.mark.parametrize(
    ("fields", "n_workers"),
    [({"nodes": 4}, 4), ({"nodes": 4, "main": "computes"}, 3), ({"nodes": 1, "main": "computes"}, 0)],
)
def test_the_main_node_is_one_of_the_nodes_when_it_computes(fields, n_workers):
    assert cell(**fields).n_workers == n_workers


def test_settings_become_options():
    words = cluster_options(cell(threads=3, parallel=8, ctx_size=256, options={"flash_attn": "off"}), MODEL)
    wanted = {"--model": "/m.gguf", "--threads": "3", "--parallel": "8", "--ctx-size": "256", "--flash-attn": "off"}
    assert {name: option(words, name) for name in wanted} == wanted
    assert option(words, "--strategy") == "memory"


def test_a_server_alone_is_local():
    assert option(cluster_options(cell(nodes=1, main="computes"), MODEL), "--strategy") == "local"


@pytest.mark.parametrize(
    ("where", "names"),
    [("link", ("--latency-min", "--latency-max")), ("token", ("--token-delay-min-s", "--token-delay-max-s"))],
)
def test_latency_is_simulated_where_the_cell_says(where, names):
    words = cluster_options(cell(latency_s=[0.01, 0.05], latency_on=where), MODEL)
    assert [option(words, name) for name in names] == ["0.01", "0.05"]
    assert not {"--latency-max", "--token-delay-max-s"} & set(cluster_options(cell(), MODEL))


def test_a_demo_gets_its_workers_and_their_memory():
    limits = Limits(worker=Limit(mem_mib=512))
    words = demo_options(cell(nodes=3, main="computes", limits=limits))
    assert (option(words, "--backends"), option(words, "--mem")) == ("2", "512")
    assert option(words, "--rpc-backends") == "local"
    assert "--rpc-backends" not in demo_options(cell(nodes=3))


def test_given_backends_are_used_from_the_first():
    given = ["a:1", "b:1", "c:1"]
    assert backend_options(cell(nodes=2), given) == ["--rpc-backends", "a:1,b:1"]
    assert backend_options(cell(nodes=2, main="computes"), given) == ["--rpc-backends", "a:1,local"]
    with pytest.raises(ConfigError, match="takes 4 workers, --backends gives 3"):
        backend_options(cell(nodes=4), given)


def test_places_on_axes_are_short():
    one = cell(latency_s=[0.01, 0.05], limits={"main": {"cpus": 2}, "worker": {"cpus": 1, "mem_mib": 64}})
    assert one.value_of("latency_s") == "0.01-0.05"
    assert one.value_of("limits") == "main 2 CPU, worker 1 CPU 64 MiB"
    assert (cell().value_of("latency_s"), cell().value_of("limits"), cell().value_of("boundaries")) == ("0", "", "")
    assert (cell(nodes=4, threads=2).label, cell(name="mine").label) == ("m-q4_0-4-2", "mine")
