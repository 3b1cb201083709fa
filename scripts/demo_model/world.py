"""The little world of the demo model's text: who lives in it, where, and what is true there."""

GIRLS = [
    "Anna", "Bella", "Clara", "Daisy", "Emma", "Grace", "Hana", "Ivy", "Julia", "Kate", "Lily", "Mia",
    "Nora", "Rosa", "Sara", "Yuki",
]  # fmt: skip
BOYS = [
    "Adam", "Ben", "Carlos", "David", "Felix", "George", "Hugo", "Jack", "Kenji", "Leo", "Max", "Noah",
    "Oscar", "Paul", "Sam", "Tom",
]  # fmt: skip
CHILDREN = dict.fromkeys(GIRLS, "she") | dict.fromkeys(BOYS, "he")
"""A child's name and its pronoun."""

ANIMALS: dict[str, tuple[str, str, str, str]] = {
    "bear": ("honey", "growl", "a warm cave", "strong"),
    "bird": ("seeds", "tweet", "a nest in a tree", "quick"),
    "cat": ("fish", "meow", "a cosy house", "soft"),
    "cow": ("grass", "moo", "a green field", "calm"),
    "dog": ("bones", "woof", "a wooden kennel", "loyal"),
    "duck": ("bread", "quack", "a round pond", "funny"),
    "fox": ("berries", "yip", "a deep den", "clever"),
    "frog": ("flies", "croak", "a wet marsh", "green"),
    "horse": ("hay", "neigh", "a big stable", "fast"),
    "lion": ("meat", "roar", "the dry plain", "brave"),
    "mouse": ("cheese", "squeak", "a tiny hole", "small"),
    "owl": ("moths", "hoot", "an old tower", "wise"),
    "pig": ("apples", "oink", "a muddy farm", "happy"),
    "rabbit": ("carrots", "sniff", "a soft burrow", "shy"),
    "sheep": ("clover", "baa", "a quiet hill", "gentle"),
    "turtle": ("leaves", "hum", "a sandy beach", "slow"),
}
"""An animal: what it eats, what it says, where it lives, what it is like."""

PLACES: dict[str, tuple[str, str, str]] = {
    "the forest": ("tall trees", "a hollow log", "The leaves moved in the wind"),
    "the village": ("small houses", "an old well", "Smoke came from every roof"),
    "the river": ("deep cold pools", "a little bridge", "The water sang over the stones"),
    "the mountain": ("grey rocks", "a narrow path", "The air was thin and fresh"),
    "the beach": ("golden sand", "a broken boat", "The waves came and went"),
    "the market": ("bright stalls", "a basket of fruit", "Everybody was talking at once"),
    "the castle": ("high walls", "a golden door", "The flags were red and blue"),
    "the garden": ("yellow flowers", "a stone bench", "Bees were busy in the sun"),
    "the school": ("long tables", "a map of the world", "The bell rang twice"),
    "the harbour": ("white ships", "a pile of ropes", "The sailors were singing"),
    "the lake": ("still blue water", "an empty island", "A silver fish jumped"),
    "the library": ("dusty shelves", "a huge book", "It was as quiet as snow"),
    "the island": ("palm trees", "a wooden chest", "The sea was all around"),
    "the station": ("shining rails", "a big round clock", "A train was leaving"),
    "the cave": ("dark corners", "a line of footprints", "Water dripped from above"),
    "the farm": ("fat hens", "a red tractor", "The hay smelled sweet"),
}
"""A place: what is there in plenty, one thing to find, and a sentence about it."""

TREASURES = [
    "lamp", "key", "kite", "drum", "ring", "book", "mirror", "bell", "stone", "feather", "box", "cup",
    "hat", "coin", "flute", "map", "rope", "shell", "clock", "candle",
]  # fmt: skip
COLOURS = ["red", "blue", "green", "yellow", "white", "black", "golden", "silver", "purple", "orange"]
FOODS = ["soup", "bread", "cake", "rice", "pancakes", "apples", "noodles", "cheese", "pie", "beans", "cookies", "plums"]
FEELINGS = ["happy", "sad", "proud", "tired", "afraid", "curious", "excited", "lonely", "calm", "surprised"]
TRAITS = ["brave", "clever", "kind", "shy", "funny", "patient", "quiet", "cheerful", "careful", "stubborn"]
WEATHER = [
    ("It was raining", "rain", "umbrella"),
    ("The sun was shining", "sun", "straw hat"),
    ("Snow was falling", "snow", "warm scarf"),
    ("A strong wind was blowing", "wind", "thick coat"),
    ("Fog lay over everything", "fog", "bright lantern"),
    ("A storm was coming", "storm", "pair of boots"),
]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"]
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]

CAPITALS = {
    "France": "Paris", "Japan": "Tokyo", "Italy": "Rome", "Spain": "Madrid", "Germany": "Berlin", "England": "London",
    "Egypt": "Cairo", "China": "Beijing", "Greece": "Athens", "Norway": "Oslo",
}  # fmt: skip
COLOUR_OF = {
    "the sky": "blue", "grass": "green", "snow": "white", "the sun": "yellow", "a carrot": "orange",
    "the night": "black", "a plum": "purple", "a tomato": "red", "a coin": "golden", "a spoon": "silver",
}  # fmt: skip
OPPOSITES = {
    "big": "small", "hot": "cold", "happy": "sad", "fast": "slow", "day": "night", "up": "down", "old": "new",
    "light": "dark", "open": "closed", "early": "late", "loud": "quiet", "wet": "dry",
}  # fmt: skip

TASKS: dict[str, list[str]] = {
    "Building a website": [
        "choose a name that people can remember", "draw every page on paper", "write the words for the first page",
        "pick two or three colours", "find some good pictures", "put the pages together", "add links between the pages",
        "test it on a small screen", "ask a friend to try it", "show it to the world",
    ],
    "Baking a cake": [
        "wash your hands", "warm up the oven", "mix the butter and the sugar", "add three eggs", "stir in the flour",
        "pour it all into a round tin", "bake it until it is golden", "wait until it is cool", "cover it with cream",
        "share it with your friends",
    ],
    "Planting a garden": [
        "look for a sunny place", "dig up the earth", "take out all the stones", "choose the seeds",
        "make small holes in a line", "put one seed in each hole", "cover the seeds with earth",
        "give them water every day", "pull out the weeds", "enjoy the flowers",
    ],
    "Making a kite": [
        "find two light sticks", "tie them into a cross", "cut a large piece of paper", "paint it in bright colours",
        "glue the paper to the sticks", "make a long tail", "fix a string in the middle", "wait for a windy day",
        "run across a field", "let it fly",
    ],
    "Learning to swim": [
        "go to warm and shallow water", "breathe slowly", "put your face in the water", "hold on to the wall",
        "kick with both legs", "lie on your back", "move your arms like a frog", "swim to a friend",
        "try it without help", "practise every week",
    ],
    "Writing a story": [
        "think of a hero", "give the hero a wish", "choose a place", "add a problem", "let a friend help",
        "make the problem bigger", "find a clever answer", "write the happy ending", "read it aloud",
        "give it a good title",
    ],
    "Cleaning a room": [
        "open the window", "pick up the clothes", "put the books on the shelf", "throw away old paper",
        "make the bed", "wipe the table", "sweep the floor", "water the plants", "close every box",
        "sit down and rest",
    ],
    "Planning a trip": [
        "decide where to go", "look at a map", "count your money", "ask who wants to come", "buy the tickets",
        "pack a small bag", "take something to eat", "leave the house early", "take many pictures",
        "come home with a smile",
    ],
}  # fmt: skip
"""A thing to do and its ten steps, in order."""
