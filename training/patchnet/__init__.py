"""The recipe of the patch encoder: its data, its network, its losses, and how the finished model is written."""
