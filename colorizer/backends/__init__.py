"""The built-in back-ends; each is loaded only when it is first used."""
