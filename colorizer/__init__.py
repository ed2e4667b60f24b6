"""The colouriser server: a grey page and its context in, a coloured page out, by any back-end."""
