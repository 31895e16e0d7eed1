"""The frozen behavior foundation model: network, tokens and files."""
