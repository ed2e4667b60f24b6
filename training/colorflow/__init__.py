"""The networks of the back-end colorflow, trained on a user's base weights: guider with LoRA, and fusion network."""
