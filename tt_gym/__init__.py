"""Task Tokens as Gymnasium environments."""
