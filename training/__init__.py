"""Recipes for the models of both servers; may import both, imported by neither."""
