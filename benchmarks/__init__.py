"""One file per number that is published; results/ holds the JSON behind the documents."""
