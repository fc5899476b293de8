"""Text of a specification file to a tree whose values know their place."""
