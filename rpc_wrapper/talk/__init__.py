"""Talk to a gateway from a terminal: one question whose time is split by where it passed, or a conversation.

``answer``, ``split`` and ``session`` are values in, values out; ``client`` speaks HTTP.
"""
