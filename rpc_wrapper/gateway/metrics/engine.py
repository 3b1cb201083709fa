"""llama-server's own metrics, passed on with the group they are of. No I/O."""

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families


def engine_families(text: str, group: str) -> list[Metric]:
    """Parse what llama-server's ``/metrics`` says (tools/server/server-task.cpp) and label it; nothing of nothing.

    What is no exposition at all is left out, as if the engine had not answered.
    """
    try:
        families = [family for family in text_string_to_metric_families(text) if family.samples]
    except ValueError:
        return []
    # n_tokens_max calls itself a counter, but its name does not end in _total, which the parser then appends.
    misnamed = {family.name for family in families if f"# TYPE {family.name} counter" in text}
    return [_labelled(family, group, is_gauge=family.name in misnamed) for family in families]


def _labelled(family: Metric, group: str, *, is_gauge: bool) -> Metric:
    labelled = Metric(family.name, family.documentation, "gauge" if is_gauge else family.type)
    for sample in family.samples:
        name = family.name if is_gauge else sample.name
        labelled.add_sample(name, {**sample.labels, "group": group}, sample.value)
    return labelled
