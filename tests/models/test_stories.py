"""The text the demo model learns: varied, whole, and the same for the same seed."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from scripts.demo_model.stories import EPISODES, a, new_scene, story
from scripts.demo_model.talk import ASSISTANT, USER, chat, short_text, steps
from scripts.demo_model.world import TASKS


@given(st.integers(0, 10_000))
def test_same_seed_same_text(seed: int) -> None:
    assert story(Random(seed)) == story(Random(seed))
    assert short_text(Random(seed)) == short_text(Random(seed))
    assert chat(Random(seed)) == chat(Random(seed))


@given(st.integers(0, 10_000))
def test_a_story_repeats_no_sentence(seed: int) -> None:
    sentences = [sentence for sentence in story(Random(seed)).split(". ") if len(sentence) > 30]
    assert len(set(sentences)) == len(sentences)


def test_stories_differ() -> None:
    assert len({story(Random(seed)) for seed in range(200)}) == 200


def test_an_episode_comes_once() -> None:
    order = new_scene(Random(3)).shuffled(EPISODES, "episodes")
    assert sorted(map(id, order)) == sorted(map(id, EPISODES))


@given(st.integers(0, 10_000))
def test_a_conversation_ends_with_an_answer(seed: int) -> None:
    roles = [role for role, _ in chat(Random(seed))]
    assert roles[-1] == ASSISTANT
    assert roles.count(USER) == roles.count(ASSISTANT)


def test_steps_are_numbered_and_each_task_has_ten() -> None:
    assert {len(lines) for lines in TASKS.values()} == {10}
    assert steps("Making a kite", 3).splitlines()[3] == "Step 3: Cut a large piece of paper."


def test_article() -> None:
    assert (a("owl"), a("grey owl")) == ("an owl", "a grey owl")
