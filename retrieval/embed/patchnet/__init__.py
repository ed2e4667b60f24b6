"""The learned embedder; see `embedder`. `weights/CARD.md` says what it was trained on."""
