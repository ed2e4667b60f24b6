"""The recipe of the back-end `incontext`: colours a page by attending to the references that were retrieved for it."""
