"""Experiments are found and read; rows are kept through interruptions."""

import pytest

from rpc_wrapper.errors import ConfigError
from rpc_wrapper.experiment.files import Ledger, find_experiment, read_experiment, shipped_names
from tests.experiment.rows import row


def test_three_experiments_come_along():
    assert shipped_names() == ["docker-distributed-llm", "http-server", "llamadistributor"]


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("name", shipped_names())
def test_those_that_come_along_are_right(name, quick):
    what = read_experiment(find_experiment(name), quick=quick)
    assert what.name == name
    assert what.seed is not None


def test_docker_distributed_llm_has_its_eighteen_cells_with_their_latencies_and_limits():
    cells = {cell.label: cell for cell in read_experiment(find_experiment("docker-distributed-llm.yaml")).cells}
    sizes = [(1, 1), (2, 1), (4, 1), (8, 1), (4, 2), (4, 3)]
    models = ["1b-q4_0", "1b-f32", "3b-q4_0"]
    assert set(cells) == {f"{model}-{nodes}-{threads}" for model in models for nodes, threads in sizes}
    assert cells["1b-q4_0-4-1"].latency_s == (0.01, 0.05)  # its main branch
    assert cells["3b-q4_0-4-1"].latency_s == (0.06, 0.12)
    assert cells["1b-f32-8-1"].latency_s == (0.08, 0.16)
    assert cells["1b-f32-1-1"].limits.main.mem_mib == 12288
    assert cells["3b-q4_0-8-1"].limits.worker.mem_mib == 1024
    assert cells["1b-q4_0-4-3"].limits.worker.cpus == 3
    assert {cell.latency_on for cell in cells.values()} == {"token"}


def test_llamadistributor_has_its_strategies_prompts_and_exits():
    what = read_experiment(find_experiment("llamadistributor"))
    assert {str(cell.strategy) for cell in what.cells} == {
        *("uniform", "memory", "compute", "mixed", "custom", "single_device")
    }
    assert {cell.keep_layers for cell in what.cells if cell.keep_layers} == {31, 24, 16, 8, 1}
    assert len(what.workloads["prompts"].texts) == 6
    cached = {name: asked.cache_prompt for name, asked in what.workloads.items() if name.startswith("steps")}
    assert cached == {"steps-with-cache": True, "steps-without-cache": False}
    assert what.workloads["fifty"].n_predict == 50


def test_the_http_server_gets_one_and_three_chats_and_embeddings():
    asked = read_experiment(find_experiment("http-server")).workloads
    assert [(each.kind, each.streams) for each in asked.values()] == [("chat", 1), ("chat", 3), ("embeddings", 1)]
    assert (asked["one chat"].prompt_tokens, asked["one chat"].n_predict) == (70, 426)


def test_a_file_goes_before_one_that_comes_along(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "http-server").write_text("{}")
    assert find_experiment("http-server").read_text() == "{}"


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(ConfigError, match="docker-distributed-llm, http-server, llamadistributor"):
        find_experiment("nothing")


@pytest.mark.parametrize(
    ("text", "words"), [("a: [", "f.yaml: it is not YAML, see line"), ("[]", "f.yaml: the file is no mapping")]
)
def test_a_file_that_is_wrong_is_named(tmp_path, text, words):
    (tmp_path / "f.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_experiment(tmp_path / "f.yaml")


def test_a_ledger_grows_and_mends_a_cut_line(tmp_path):
    ledger = Ledger(tmp_path / "deep" / "rows.jsonl")
    one, two, three = row(1.0, nodes=1), row(2.0, nodes=2), row(3.0, nodes=3)
    assert ledger.rows() == {}
    ledger.add(one)
    ledger.add(two)
    text = ledger.path.read_text()
    ledger.path.write_text(text[:-20])  # the second was being written when somebody pulled the plug
    ledger.add(three)
    assert ledger.rows() == {one.key: one, three.key: three}


def test_a_quick_run_stands_beside_no_figure_that_depends_on_the_length_of_an_answer():
    whole, quick = (
        read_experiment(find_experiment("docker-distributed-llm.yaml"), quick=each) for each in (False, True)
    )
    assert whole.seed is not None
    assert quick.seed is not None
    assert "ttlt_ms" in whole.seed.rows[0].figures
    assert quick.seed.rows[0].figures.keys() == {"ttft_ms", "throughput"}
    assert quick.seed.source == whole.seed.source
