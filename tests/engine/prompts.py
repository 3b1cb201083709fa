"""Twenty prompts the demo model can go on from, each in its own way."""

PROMPTS = (
    "Once upon a time",
    "The little fox",
    "One morning, Anna",
    "Tom found a red ball",
    "The old bear was",
    "It was raining and",
    "In the garden there",
    "The cat wanted to",
    "Ben and Lily went",
    "The moon was bright",
    "A small bird sat",
    "The king had a",
    "Mia was very happy because",
    "The dog ran to the",
    "On the hill stood",
    '"Where are you going?" asked',
    "The fisherman took his boat",
    "Nobody knew why the",
    "At night the owl",
    "Sam opened the box and",
)
