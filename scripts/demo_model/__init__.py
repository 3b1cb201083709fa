"""What makes ``models/demo.gguf``: its text (world, stories, talk), its tokenizer, its network and its GGUF file."""
